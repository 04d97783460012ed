"""Cost of spancast in an idle process: import time, memory, loaded modules."""

from __future__ import annotations

import compileall
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.environments import ROOT, clean_environ

_SDK = """
import openai, opentelemetry.sdk.trace, opentelemetry.sdk.trace.export
import opentelemetry.exporter.otlp.proto.http.trace_exporter
"""
_IMPORT = """
import json, sys, time
started = time.perf_counter(), time.process_time()
from spancast import configure, instrument, trace
print(json.dumps([time.perf_counter() - started[0], time.process_time() - started[1]]))
"""
_MODULES = """
import json, sys
from spancast import configure, instrument, trace
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
_PLAIN_RUNNING = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
"""
_SPANCAST_RUNNING = """
import spancast
spancast.configure(
    spool="memory", destinations={"bench": {"type": "otlp", "endpoint": "http://127.0.0.1:9", "spans": "all"}}
)
spancast.instrument()
"""
_RSS = """
import gc, os
gc.collect()
print(int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
"""
_UNWANTED = (
    "openai", "anthropic", "openrouter", "boto3", "clickhouse_connect",
    "grpc", "requests", "urllib3", "httpx", "httpx2", "aiohttp",
)  # fmt: skip
_MIB = 1 << 20
_MS = 1_000


@dataclass(kw_only=True)
class Footprint:
    import_ms: list[float]
    import_cpu_ms: list[float]
    plain_mib: list[float]
    """Resident memory with openai, the SDK and a batch exporter."""
    spancast_mib: list[float]
    unwanted: list[str]
    """Vendor SDKs and HTTP clients that ``import spancast`` loads."""

    @property
    def memory_mib(self) -> float:
        return statistics.median(self.spancast_mib) - statistics.median(self.plain_mib)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(times: int) -> Footprint:
    import_s: list[list[float]] = []
    plain: list[float] = []
    traced: list[float] = []
    # Like an installed package: with PYTHONDONTWRITEBYTECODE every start would compile the sources.
    compileall.compile_dir(ROOT / "src", quiet=1)
    for _ in range(times):
        import_s.append(_run(_SDK + _IMPORT))
        plain.append(_run(_SDK + _PLAIN_RUNNING + _RSS) / _MIB)
        traced.append(_run(_SDK + _SPANCAST_RUNNING + _RSS) / _MIB)
    return Footprint(
        import_ms=[wall * _MS for wall, _ in import_s],
        import_cpu_ms=[cpu * _MS for _, cpu in import_s],
        plain_mib=plain,
        spancast_mib=traced,
        unwanted=sorted(set(_run(_MODULES)) & set(_UNWANTED)),
    )


def _run(program: str) -> Any:
    environ = clean_environ(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    completed = subprocess.run(
        [sys.executable, "-c", program], env=environ, cwd=ROOT, check=True, capture_output=True, timeout=60
    )
    return json.loads(completed.stdout)
