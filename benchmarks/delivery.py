"""Workloads for measuring delivery: processes that create many copies of one span for many destinations."""

from __future__ import annotations

import gc
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Loaded before the processes fork, so that loading is not measured.
import urllib3
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import spancast
from benchmarks.timing import probe
from spancast.runtime import RUNTIME

DEAD = "http://127.0.0.1:9"
_US = 1_000_000
_NS = 1_000_000_000
_MIB = 1 << 20
_BURST = 500
_PRELOADED = urllib3
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
_MIXED: tuple[dict[str, Any], ...] = (
    {"convention": "gen_ai"}, {"convention": "openinference"}, {"convention": "langfuse"}, {"privacy_mode": True},
)  # fmt: skip


def run(role: str, spans: int, ports: list[int]) -> dict[str, Any]:
    """Create ``spans`` spans and deliver them to ``ports`` in the given ``role``; return CPU and rate per span.

    Of the role ``burst`` the rate is wanted: on every core, as fast as the span queue takes them.
    """
    if role == "burst":
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    provider = TracerProvider(shutdown_on_exit=False)
    with tempfile.TemporaryDirectory(prefix="spancast-bench-") as directory:
        flush = _sdk(ports, provider) if role == "sdk" else _spancast(role, ports, provider, directory)
        tracer = provider.get_tracer("spancast")
        _create_spans(tracer, _BURST)
        flush()
        gc.collect()
        gc.freeze()
        started, cpu, probes = time.perf_counter(), time.process_time(), [probe()]
        for _ in range(spans // _BURST):
            _create_spans(tracer, _BURST)
            # Slow enough that no queue overflows, like a busy service.
            if role == "burst":
                while RUNTIME.pipeline and RUNTIME.pipeline.span_queue.queued > 2 * _BURST:
                    time.sleep(0.001)
                continue
            probes.append(probe())
            if role == "sdk":
                flush()
            else:
                time.sleep(0.02)
        flush()
        probes.append(probe())
        duration, cpu = time.perf_counter() - started, time.process_time() - cpu - sum(probes) / _NS
        if role != "sdk":
            spancast.shutdown(0.5)
    return {"cpu_us": cpu / spans * _US, "spans_per_s": spans / duration, "probe": sum(probes) / len(probes)}


def outage(spans: int, parts: int) -> dict[str, Any]:
    """Create ``spans`` spans as fast as possible while the only destination is down; return memory after each part."""
    provider = TracerProvider(shutdown_on_exit=False)
    with tempfile.TemporaryDirectory(prefix="spancast-bench-") as directory:
        _spancast("dead", [9], provider, directory)
        tracer = provider.get_tracer("spancast")
        _create_spans(tracer, 1)
        before, growth = _rss(), []
        started = time.perf_counter()
        for _ in range(parts):
            _create_spans(tracer, spans // parts)
            growth.append((_rss() - before) / _MIB)
        duration = time.perf_counter() - started
        spancast.flush(5.0)
        size = sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())
        stats = spancast.stats()
        dropped = {"": stats.dropped, **{name: one.dropped for name, one in stats.destinations.items()}}
        drops = {f"{name} {reason}".strip(): count for name, of in dropped.items() for reason, count in of.items()}
        spancast.shutdown(0.5)
    return {
        "spans": spans, "spans_per_s": spans / duration, "grown_mib": growth, "disk_mib": size / _MIB,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "dropped": sum(drops.values()), "drops": drops,
    }  # fmt: skip


def _create_spans(tracer: Any, count: int) -> None:
    for number in range(count):
        # One session per span: sampling is per session.
        tracer.start_span("chat gpt-4o", attributes={**ATTRIBUTES, "session.id": f"session-{number}"}).end()


def _sdk(ports: list[int], provider: TracerProvider) -> Callable[[], Any]:
    for port in ports:
        exporter = OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces", compression=Compression.Gzip)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1 << 16))
    return lambda: provider.force_flush(60_000)


def _spancast(role: str, ports: list[int], provider: TracerProvider, directory: str) -> Callable[[], Any]:
    def entry(index: int, port: int) -> dict[str, Any]:
        # gzip like the SDK's exporters here; spancast does not compress for loopback by default.
        common: dict[str, Any] = {
            "type": "otlp", "endpoint": f"http://127.0.0.1:{port}", "spans": "all", "compression": "gzip"
        }  # fmt: skip
        if role == "mixed":
            common.update(_MIXED[index % len(_MIXED)])
        elif role == "private":
            common.update(privacy_mode=True)
        elif role == "sampled":
            common.update(sampling_rate=0.1)
        elif role == "one_dead" and index == 0:
            common.update(endpoint=DEAD)
        return common

    destinations = {f"d{index}": entry(index, port) for index, port in enumerate(ports)}
    spool: Any = "memory" if role == "memory" else {"path": directory}
    spancast.configure(tracer_provider=provider, destinations=destinations, spool=spool)
    return lambda: spancast.flush(1.0 if role == "one_dead" else 120.0)


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
