"""``python -m benchmarks.delivery``: what it costs to keep and deliver spans; writes docs/delivery.md.

Every run is a process of its own that makes spans, delivers them to a receiver in another process and ends;
its CPU time over all threads is what is compared. ``ROLE N SPANS PORTS`` as arguments is such a run.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT, clean_environ
from benchmarks.measure import receiver, report

PAGE = ROOT / "docs" / "delivery.md"
COUNTS = (1, 2, 4, 8, 16)
SPANS = 6_000
DEAD_SPANS = 1_000_000
ROUNDS = 5
_US = 1_000_000
_MIB = 1 << 20
MESSAGES = json.dumps(
    [
        {"role": role, "parts": [{"type": "text", "content": "Could you look into order 4711 for me? " * 6}]}
        for role in ("system", "user", "assistant", "user")
    ]
)
ATTRIBUTES: dict[str, Any] = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06", "gen_ai.response.id": "chatcmpl-1", "gen_ai.request.temperature": 0.2,
    "gen_ai.request.max_tokens": 200, "gen_ai.usage.input_tokens": 180, "gen_ai.usage.output_tokens": 40,
    "spancast.usage.total_tokens": 220, "spancast.usage.cost": 0.0004, "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.input.messages": MESSAGES, "gen_ai.output.messages": MESSAGES[:300], "session.id": "session-1",
    "gen_ai.conversation.id": "session-1", "user.id": "user-1", "server.address": "api.openai.com",
    "trace.metadata.team": "search", "trace.metadata.environment": "production",
}  # fmt: skip
_MIXED = ("gen_ai", "openinference", "langfuse", "gen_ai")


def _sdk(ports: list[int], provider: Any) -> Callable[[], Any]:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    for port in ports:
        url = f"http://127.0.0.1:{port}/v1/traces"
        exporter = OTLPSpanExporter(url, compression=Compression.Gzip)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1 << 16))
    return lambda: provider.force_flush(60_000)


def _spancast(role: str, ports: list[int], provider: Any, directory: str) -> Callable[[], Any]:
    import spancast

    def entry(index: int, port: int) -> dict[str, Any]:
        common = {"type": "otlp", "endpoint": f"http://127.0.0.1:{port}", "spans": "all"}
        if role == "mixed":
            return {**common, "profile": _MIXED[index % 4], "privacy_mode": index % 4 == 3, "sampling_rate": 1.0}
        return common

    destinations = {f"d{index}": entry(index, port) for index, port in enumerate(ports)}
    if role == "one_dead":
        destinations["d0"] = {**destinations["d0"], "endpoint": "http://127.0.0.1:9"}
    spool: Any = "memory" if role == "memory" else {"path": directory}
    spancast.configure(tracer_provider=provider, destinations=destinations, spool=spool)
    return lambda: spancast.flush(0.5 if role in ("one_dead", "dead") else 120)


def run(role: str, spans: int, ports: list[int]) -> dict[str, float]:
    """Make ``spans`` spans and deliver them; return CPU seconds per span, memory and what was told."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    with tempfile.TemporaryDirectory() as directory:
        flush = _sdk(ports, provider) if role == "sdk" else _spancast(role, ports, provider, directory)
        tracer = provider.get_tracer("spancast")
        before = _rss()
        started, cpu = time.perf_counter(), time.process_time()
        for number in range(spans):
            tracer.start_span("chat gpt-4o", attributes=ATTRIBUTES).end()
            if number % 500 == 499:
                # A busy service, not one that does nothing else: the queue of none of them overflows.
                flush() if role == "sdk" else time.sleep(0.02)
        handed_s = time.perf_counter() - started
        told = flush()
        took, cpu = time.perf_counter() - started, time.process_time() - cpu
        size = sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())
        result = {
            "cpu_us": cpu / spans * _US, "spans_per_s": spans / took, "handed_per_s": spans / handed_s,
            "rss_mib": (_rss() - before) / _MIB, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "disk_bytes": size / spans, "fine": float(bool(told)),
        }  # fmt: skip
        if role != "sdk":
            import spancast

            counts = spancast.stats()
            result["dropped"] = float(sum(value for name, value in counts.items() if name.startswith("dropped")))
            spancast.shutdown(0.5)
    return result


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measured(
    role: str, spans: int, ports: list[int], rounds: int = ROUNDS, *, checked: bool = True
) -> dict[str, float]:
    """Return the medians over ``rounds`` runs, each a process; every span is counted at every receiver."""
    taken: list[dict[str, float]] = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.delivery", role, str(spans), json.dumps(ports)],
            cwd=ROOT, env=clean_environ(), check=True, capture_output=True, timeout=600,
        )  # fmt: skip
        taken.append(json.loads(done.stdout))
        for port in ports if checked else ():
            calls = report(port, {})["calls"]
            if checked and calls != spans:
                raise SystemExit(f"{role}: {calls} of {spans} spans came at port {port}")
    return {name: statistics.median(one[name] for one in taken) for name in taken[0]}


def main() -> None:
    """Measure all and write the page."""
    if len(sys.argv) > 3:
        print(json.dumps(run(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))))
        return
    quick = "--quick" in sys.argv
    rounds = 3 if quick else ROUNDS
    with receiver(max(COUNTS)) as ports:
        fan = {n: measured("same", SPANS, ports[:n], rounds) for n in COUNTS}
        mixed = {n: measured("mixed", SPANS, ports[:n], rounds) for n in (4, 8)}
        sdk = {n: measured("sdk", SPANS, ports[:n], rounds) for n in (1, 8)}
        dead = measured("one_dead", SPANS, ports[:2], rounds, checked=False)
        report(ports[1], {})
        memory = measured("memory", SPANS, ports[:1], rounds)
        outage = {} if quick else measured("dead", DEAD_SPANS, [9], 1, checked=False)
    text = page(fan, mixed, sdk, dead, memory, outage)
    print(text)
    if not quick:
        PAGE.write_text(text)


def page(
    fan: dict[int, dict[str, float]], mixed: dict[int, dict[str, float]], sdk: dict[int, dict[str, float]],
    dead: dict[str, float], memory: dict[str, float], outage: dict[str, float],
) -> str:  # fmt: skip
    """Return docs/delivery.md."""
    one = fan[1]["cpu_us"]
    rows = [
        f"| spancast, {n} destination{'s' * (n > 1)}, one view | {found['cpu_us']:.0f} | {found['cpu_us'] / one:.2f} |"
        for n, found in fan.items()
    ]
    rows += [
        f"| spancast, {n} destinations, 4 views (gen_ai, OpenInference, Langfuse, private) | {found['cpu_us']:.0f} |"
        f" {found['cpu_us'] / one:.2f} |"
        for n, found in mixed.items()
    ]
    rows += [
        f"| spancast, 2 destinations, one of them dead | {dead['cpu_us']:.0f} | {dead['cpu_us'] / one:.2f} |",
        f"| spancast, 1 destination, `spool: memory` | {memory['cpu_us']:.0f} | {memory['cpu_us'] / one:.2f} |",
    ]
    rows += [
        f"| the SDK's way: {n} batch processor{'s' * (n > 1)} with OTLP exporters | {found['cpu_us']:.0f} |"
        f" {found['cpu_us'] / one:.2f} |"
        for n, found in sdk.items()
    ]
    told = (
        ""
        if not outage
        else f"""
## A destination that is down

{DEAD_SPANS:,} spans while the only destination refused connections: {outage["handed_per_s"]:,.0f} spans/s were taken,
{outage["dropped"]:,.0f} dropped and counted (the spool's 512 MiB hold the newest; the oldest go first), the process
grew by {outage["rss_mib"]:.0f} MiB. On disk a span took {outage["disk_bytes"]:.0f} bytes of those that were made.
"""
    )
    return f"""# What delivery costs

Written by `python -m benchmarks.delivery` on {time.strftime("%Y-%m-%d")}: {platform.machine()}, {os.cpu_count()} cores,
Python {platform.python_version()}. A span has {len(ATTRIBUTES)} attributes and {len(MESSAGES) + 300} bytes of messages.
CPU time is that of the whole process, all threads, making the span included; gzip, OTLP over HTTP; the receiver is
another process, and every span was counted there. Medians of {ROUNDS} processes of {SPANS:,} spans.

| | µs CPU per span | against one destination |
|---|---|---|
{chr(10).join(rows)}

One process on one destination delivers {fan[1]["spans_per_s"]:,.0f} spans/s end to end while it makes them, through the
spool on disk.
{told}"""


if __name__ == "__main__":
    main()
