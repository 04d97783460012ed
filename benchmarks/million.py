"""``python -m benchmarks.million`` (``make million``): a million spans in the local store and in the spool.

Both are made once through the code that programs use, and kept in ``--folder`` (8 GB). Then the page is served by
``spancast ui`` in a process of its own, and commands run on the spool. Each time is that of the whole answer.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.environments import clean_environ
from benchmarks.markdown import rows
from spancast.cli.naming import keys_of
from spancast.config.settings import load
from spancast.destinations.span_store import Store
from spancast.destinations.store_index import StoreIndex, TraceQuery
from spancast.encoding.span_data import ResourceData, ScopeData, SpanData, resource_json, scope_json, span_json
from spancast.export.spool.directory import open_spool
from spancast.model.span_record import SpanRecord

_CALLS = 4
_FAILED = 0.02
_BATCH = 512
_DAYS = 90
_NS = 1_000_000_000
_MS = 1_000
_SPOOL_BYTES = 32 << 30
_AGE_S = 10 * 365 * 86_400.0
_DISTINCT = 5_000
_PUT = 20
"""Spans per batch of the spool: a service with some calls a second."""
_RESOURCE = ResourceData({"service.name": "support-bot", "telemetry.sdk.language": "python"})
_SCOPE = ScopeData("spancast", "1")
_RESOURCE_JSON, _SCOPE_JSON = resource_json(_RESOURCE), scope_json(_SCOPE)
_MODELS = (
    "gpt-5.2",
    "gpt-5.2-mini",
    "claude-sonnet-5",
    "claude-haiku-5",
    "gemini-3-pro",
    "mistral-large",
    "qwen3",
    "kimi-k3",
)
_PROVIDERS = ("openai", "openai", "anthropic", "anthropic", "gcp.gemini", "mistral_ai", "openrouter", "openrouter")
_FEATURES = ("billing", "search", "onboarding", "returns", "smalltalk")
_WORDS = 20_000
_ROUNDS = 5
_PROGRAM = str(Path(sys.executable).with_name("spancast"))
_START_S = 60.0


def spans(count: int) -> Iterator[SpanData]:
    """Yield traces of a group and four calls, oldest first: 2 kB each, sessions of four traces, 5,000 users."""
    chance = random.Random(20)
    words = [_word(number) for number in range(_WORDS)]
    weights = list(accumulate(1 / (rank + 5) for rank in range(_WORDS)))
    step = _DAYS * 86_400 * _NS // (count // (_CALLS + 1) + 1)
    first = time.time_ns() - _DAYS * 86_400 * _NS

    def text(length: int) -> str:
        return " ".join(chance.choices(words, cum_weights=weights, k=length))

    for trace in range(count // (_CALLS + 1)):
        start = first + trace * step
        trace_id = hashlib.md5(b"trace %d" % trace).hexdigest()
        model = min(int(chance.expovariate(0.5)), len(_MODELS) - 1)
        session, user = f"chat-{trace % 97 + trace // 388 * 97}", f"u-{min(int(chance.expovariate(1 / 800)), 4_999)}"
        common: dict[str, Any] = {
            "session.id": session, "gen_ai.conversation.id": session, "user.id": user, "trace.name": "Support",
            "trace.metadata.feature": chance.choice(_FEATURES), "trace.metadata.tier": chance.randint(1, 3),
        }  # fmt: skip
        messages = [_message("user", f"Where is my order {trace}? {text(60)}")]
        own = _span(trace_id, "0" * 15 + "1", "", "Support", start, chance.randint(2, 8) * _NS, common)
        own.attributes = {
            **common, "gen_ai.operation.name": "invoke_workflow", "gen_ai.input.messages": json.dumps(messages),
        }  # fmt: skip
        yield own
        for call in range(_CALLS):
            answer = _message("assistant", text(50))
            is_failed = chance.random() < _FAILED
            tokens = 400 * (call + 1)
            attributes = {
                **common, "gen_ai.operation.name": "chat", "gen_ai.provider.name": _PROVIDERS[model],
                "gen_ai.request.model": _MODELS[model], "gen_ai.response.model": _MODELS[model],
                "gen_ai.input.messages": json.dumps(messages), "gen_ai.usage.input_tokens": tokens,
                "gen_ai.usage.output_tokens": 80, "spancast.usage.total_tokens": tokens + 80,
                "spancast.usage.cost": tokens * 2.5e-6, "gen_ai.response.time_to_first_chunk": 0.4,
                "gen_ai.output.messages": json.dumps([{**answer, "finish_reason": "stop"}]),
            }  # fmt: skip
            if is_failed:
                attributes |= {"error.type": "rate_limit_exceeded", "spancast.response.status_code": 429}
            span = _span(
                trace_id, f"{call + 2:016x}", "0" * 15 + "1", "answer", start + call * _NS,
                int(chance.lognormvariate(20.5, 0.8)), attributes,
            )  # fmt: skip
            if is_failed:
                span.status, span.status_message = "error", "Error code: 429"
            yield span
            messages = [*messages, answer, _message("user", text(15))]


def _word(number: int) -> str:
    digest = hashlib.md5(b"word %d" % number).hexdigest()
    return "".join("bcdfghklmnprstvz"[int(one, 16)] + "aeiou"[int(one, 16) % 5] for one in digest[: 2 + number % 3])


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def _span(  # noqa: PLR0913, PLR0917 - the fields that differ
    trace_id: str, span_id: str, parent: str, name: str, start: int, lasts: int, of: dict[str, Any]
) -> SpanData:
    return SpanData(
        trace_id=trace_id, span_id=span_id, parent_span_id=parent, name=name, kind=3, start_ns=start,
        end_ns=start + lasts, status="unset", status_message="", attributes=of, resource=_RESOURCE, scope=_SCOPE,
    )  # fmt: skip


def batches(count: int) -> Iterator[list[SpanData]]:
    every = spans(count)
    while batch := list(islice(every, _BATCH)):
        yield batch


def make_store(path: Path, count: int) -> None:
    """Write ``count`` spans as the destination ``store`` does."""
    if not path.exists():
        store, unfinished = Store(path.with_suffix(".new")), path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        for batch in batches(count):
            store.write(batch)
        unfinished.rename(path)


def make_spool(folder: Path, count: int) -> None:
    """Put ``count`` spans into a spool for a destination that has not taken any; their text is repeated."""
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        spool = open_spool(unfinished, _SPOOL_BYTES, _AGE_S)
        # As the process that has this configuration.
        spool.register(list(keys_of(load(write_config(folder)).destinations).values()))
        distinct = [_record(one) for one in spans(_DISTINCT)]
        for first in range(0, count, _PUT):
            numbers = range(first, min(first + _PUT, count))
            spool.put([_numbered(distinct[one % _DISTINCT], one) for one in numbers], {})
        spool.close()
        unfinished.rename(folder)


def _record(span: SpanData) -> SpanRecord:
    return SpanRecord(
        trace_id=bytes.fromhex(span.trace_id), span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id), end_ns=span.end_ns, is_genai=True,
        resource=_RESOURCE_JSON, scope=_SCOPE_JSON, body=span_json(span),
    )  # fmt: skip


def _numbered(record: SpanRecord, number: int) -> SpanRecord:
    return replace(record, trace_id=trace_id_of(number), end_ns=time.time_ns())


def trace_id_of(number: int) -> bytes:
    """Return the trace id of the span ``number`` of the spool: five spans have one trace."""
    return (number // (_CALLS + 1) + 1 << 64 | 0x5BA9).to_bytes(16, "big")


def write_config(folder: Path) -> Path:
    """Write the configuration of the spool in ``folder``: two files as destinations, the second without spans."""
    path = folder.with_suffix(".yaml")
    files = {name: {"type": "file", "path": str(folder.with_suffix(f".{name}.jsonl"))} for name in ("first", "second")}
    path.write_text(json.dumps({"spool": {"path": str(folder)}, "destinations": {"first": files["first"]}}))
    _second(folder).write_text(json.dumps({"spool": {"path": str(folder)}, "destinations": files}))
    return path


def _second(folder: Path) -> Path:
    return folder.with_suffix(".second.yaml")


# --- the page -------------------------------------------------------------------------------------

_ANSWERS: dict[str, str] = {
    "list": "/",
    "list, next page": "/?before={middle}",
    "list by model": "/?model=gemini-3-pro",
    "list by model and user": "/?model=gpt-5.2&user=u-1500",
    "list of two models that no trace has": "/?model=gpt-5.2&where=@model%3Dqwen3",
    "list with an error": "/?status=error",
    "list, cost": "/?min_cost=1",
    "list, key=value": "/?where=feature%3Dreturns&since=7d",
    "search, a common word": "/?q={common}",
    "search, two common words": "/?q={common}+{second}",
    "search, a rare word": "/?q={rare}",
    "search, a number": "/?q=77810",
    "search, no hit": "/?q=xylophonist",
    "search with a filter of few traces": "/?q={common}&user=u-3333",
    "search with a filter of many traces": "/?q={common}&model=gemini-3-pro",
    "search with filters that no trace has": "/?q={common}&where=tier%3D9",
    "search with the error filter": "/?q={second}&status=error",
    "a trace": "/trace/{trace}",
    "a trace, where it went": "/trace/{trace}?tab=delivery",
    "a trace that is not stored": "/trace/ffffffffffffffffffffffffffffffff",
    "sessions": "/sessions",
    "one session": "/session?id={session}",
    "totals by day": "/totals",
    "totals by hour": "/totals?by=hour&since=7d",
    "totals by model": "/totals?by=model",
    "totals by user": "/totals?by=user",
    "totals by session": "/totals?by=session",
    "totals by a key, any time": "/totals?by=feature&since=",
    "totals by day of one model": "/totals?by=day&model=gemini-3-pro&since=",
    "totals by model of one user": "/totals?by=model&user=u-1500&since=7d",
    "totals by user of one model": "/totals?by=user&model=gemini-3-pro&since=7d",
}


def page(store: Path) -> tuple[list[list[str]], int]:
    """Return a row per address, and the most memory of the server in MiB."""
    index = StoreIndex(store)
    rows_ = index.traces(TraceQuery(limit=200))
    one = rows_[100]
    given = {
        "middle": one.start_ns - 86_400 * _NS * _DAYS // 2, "trace": one.trace_id, "session": quote(one.session or ""),
        "common": _word(0), "second": _word(3), "rare": _word(_WORDS - 100),
    }  # fmt: skip
    command = [_PROGRAM, "ui", "--port", "0", "--store", str(store), "--spool", str(store.with_name("spool"))]
    found: list[list[str]] = []
    with subprocess.Popen(command, cwd=store.parent, env=clean_environ(), stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = re.search(r"http://([\d.:]+)/", server.stderr.readline())
            assert address is not None, server.stderr.read()
            _wait_for(address[1])
            for name, path in _ANSWERS.items():
                before, times = _cpu_ms(server.pid), [_get(address[1], path.format(**given)) for _ in range(_ROUNDS)]
                cpu = (_cpu_ms(server.pid) - before) / _ROUNDS
                found.append([name, *(f"{one:.0f}" for one in (times[0], statistics.median(times), max(times), cpu))])
            peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
            return found, int(peak[1]) // 1024 if peak else 0
        finally:
            server.send_signal(signal.SIGTERM)


def _cpu_ms(pid: int) -> float:
    """Return the processor time of a process: unlike wall time it is hardly longer on a busy machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _MS / os.sysconf("SC_CLK_TCK")


def _wait_for(address: str) -> None:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            _get(address, "/static/icon.svg")
            return
        time.sleep(0.05)


def _get(address: str, path: str) -> float:
    """Return the milliseconds until the whole response has arrived."""
    connection = http.client.HTTPConnection(address, timeout=60)
    started = time.perf_counter()
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    response.read()
    taken = (time.perf_counter() - started) * _MS
    connection.close()
    if response.status not in (200, 404):
        raise SystemExit(f"{path}: {response.status}")
    return taken


# --- the spool ------------------------------------------------------------------------------------


def spool(folder: Path) -> list[list[str]]:
    """Return a row per command: time until its answer (flush, replay: until the first delivery), and memory."""
    trace = trace_id_of(900_000).hex()
    name = ["--config", str(write_config(folder))]
    second = ["--config", str(_second(folder))]
    first_file, second_file = folder.with_suffix(".first.jsonl"), folder.with_suffix(".second.jsonl")
    since = ["--since", "3650d"]
    commands: list[tuple[str, list[str], Path | None]] = [
        ("nothing: spancast spool --help", ["spool", "--help"], None),
        ("open, size and queues: spool", ["spool", *name], None),
        ("explain a trace", ["explain", trace, *name], None),
        ("explain, not stored", ["explain", "f" * 32, *name], None),
        ("replay of one trace", ["spool", "replay", "second", *since, "--trace", trace, *second], second_file),
        ("flush, first delivery", ["spool", "flush", *name], first_file),
        ("replay of everything, first delivery", ["spool", "replay", "second", *since, *second], second_file),
    ]  # fmt: skip
    return [[what, *_command(arguments, delivered)] for what, arguments, delivered in commands]


def _command(arguments: list[str], delivered: Path | None) -> list[str]:
    if delivered is not None:
        delivered.unlink(missing_ok=True)
    started = time.perf_counter()
    process = subprocess.Popen([_PROGRAM, *arguments], env=clean_environ(), stdout=subprocess.DEVNULL)
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if delivered and delivered.exists() and delivered.stat().st_size:
            break
        time.sleep(0.005)
    taken = time.perf_counter() - started
    # Not by `process`, which would take the usage with the exit status.
    os.kill(process.pid, signal.SIGTERM)
    _, process.returncode, used = os.wait4(process.pid, 0)
    return [f"{taken * _MS:.0f}", f"{(used.ru_utime + used.ru_stime) * _MS:.0f}", f"{used.ru_maxrss // 1024}"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/spancast-million"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    store = options.folder / "spans.db"
    make_store(store, options.spans)
    index = StoreIndex(store)
    while (progress := index.refresh(20.0)).indexed < progress.total:
        print(f"{progress.indexed:,} of {progress.total:,} spans are in the index", file=sys.stderr)
    make_spool(options.folder / "spool", options.spans)
    times, peak = page(store)
    print(f"{progress.indexed:,} spans; the server had {peak} MiB at most\n")
    print(rows(["page, ms", "first", "median", "slowest", "processor"], times))
    print()
    print(rows(["spool", "ms", "processor, ms", "MiB"], spool(options.folder / "spool")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
