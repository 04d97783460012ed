"""``python -m benchmarks.tiers``: what one Collector takes; writes the table of docs/scale-out.md.

Real Collector, the configurations of this repository with another exporter at their end: batches of 512 spans
are posted by four connections, and the run ends when the last span has come out. Messages hold random text, so that
compression finds no more than in real ones.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from benchmarks.delivery import ATTRIBUTES, MESSAGES
from benchmarks.environments import ROOT
from benchmarks.processes import receiver, report
from spancast.encoding.encoder import SpanEncoder
from spancast.export.record_builder import ContextCache, record_of

PAGE = ROOT / "docs" / "scale-out.md"
BATCH = 512
BATCHES = 100
SENDERS = 4
PORT = 24318
_TICKS = os.sysconf("SC_CLK_TCK")


def payloads() -> list[bytes]:
    """Return encoded, compressed batches; ids differ, or tail sampling would see one trace."""
    provider = TracerProvider(resource=Resource({"service.name": "bench"}), shutdown_on_exit=False)
    tracer, heads = provider.get_tracer("spancast"), ContextCache()
    made: list[bytes] = []
    for _ in range(BATCHES):
        records = []
        for _ in range(BATCH):
            said = MESSAGES.replace("order 4711", os.urandom(100).hex())
            attributes = {**ATTRIBUTES, "gen_ai.input.messages": said}
            span: Any = tracer.start_span("chat gpt-4o", attributes=attributes)
            span.end()
            records.append(record_of(span, attributes, span.status, heads))
        made.append(gzip.compress(SpanEncoder().payload(records).protobuf, 6))
    return made


def config(tier: str, port: int, directory: str) -> dict[str, Any]:
    """Return the tier's configuration with what can be counted at its end."""
    source = "otel-collector.yaml" if tier == "agent" else "deploy/gateway.yaml"
    given: dict[str, Any] = yaml.safe_load((ROOT / source).read_text())
    [of_exporter] = [one for name, one in given["exporters"].items() if name != "debug"]
    given["exporters"] = {
        "otlp_http": {
            "traces_endpoint": f"http://127.0.0.1:{port}/v1/traces", "compression": "none",
            "retry_on_failure": of_exporter["retry_on_failure"], "sending_queue": of_exporter["sending_queue"],
        }
    }  # fmt: skip
    pipeline = given["service"]["pipelines"]["traces"]
    pipeline["exporters"] = ["otlp_http"]
    given["receivers"]["otlp"]["protocols"] = {
        "http": {"endpoint": f"127.0.0.1:{PORT}", "max_request_body_size": 1 << 26}
    }
    given["extensions"] = {"file_storage/queue": {"directory": directory, "create_directory": True}}
    given["service"]["extensions"] = ["file_storage/queue"]
    given["service"]["telemetry"] = {"metrics": {"level": "none"}}
    if tier != "agent":
        tail = given["processors"]["tail_sampling"]
        tail["decision_wait"] = "2s"
        tail["policies"] = [{"name": "all", "type": "always_sample"}]
    return given


def run(tier: str, made: list[bytes], port: int) -> dict[str, float]:
    """Post all of ``made`` and return spans/s, CPU and memory of the Collector."""
    binary = subprocess.run(
        [str(ROOT / "servers/build"), "--print", "otelcol"], capture_output=True, text=True, check=True
    )
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "config.yaml"
        file.write_text(yaml.safe_dump(config(tier, port, f"{directory}/queue")))
        process = subprocess.Popen([binary.stdout.strip(), "--config", str(file)], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if "Everything is ready" in line:
                break
        threading.Thread(target=process.stderr.read, daemon=True).start()
        started = time.perf_counter()
        senders = [threading.Thread(target=post, args=(made[n::SENDERS],)) for n in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        posted_s = time.perf_counter() - started
        came, wanted = 0, len(made) * BATCH
        while came < wanted and time.perf_counter() - started < 300:
            came += report(port, {})["calls"]
            time.sleep(0.05)
        took_s = time.perf_counter() - started
        stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        process.terminate()
        process.wait(30)
    if came != wanted:
        raise SystemExit(f"{tier}: {came} of {wanted} came")
    return {
        "posted_per_s": wanted / posted_s, "per_s": wanted / took_s,
        "cpu_us": (int(stat[11]) + int(stat[12])) / _TICKS / wanted * 1e6,
        "peak_mib": int(peak[1]) / 1024 if peak else 0.0,
    }  # fmt: skip


def post(bodies: list[bytes]) -> None:
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    for body in bodies:
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/traces", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200


def main() -> None:
    made = payloads()
    size = sum(map(len, made)) / BATCH / BATCHES
    with receiver(1) as [port]:
        rows = {tier: run(tier, made, port) for tier in ("agent", "gateway")}
    lines = [
        f"| {name} | {one['per_s']:,.0f} | {one['cpu_us']:.0f} | {one['peak_mib']:.0f} MiB |"
        for name, one in rows.items()
    ]
    about = (
        f"Measured on {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores shared by sender, Collector and receiver;"
        f" {BATCH * BATCHES:,} spans of {len(ATTRIBUTES)} attributes, {size:.0f} bytes each on the wire (gzip)."
    )
    head = ["| tier | spans/s in and out | µs CPU per span | peak memory |", "|---|---|---|---|"]
    text = "\n".join([about, "", *head, *lines])
    print(text)
    if "--write" in sys.argv:
        page = PAGE.read_text()
        marked = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda match: f"{match[1]}{text}\n{match[2]}", page))


if __name__ == "__main__":
    main()
