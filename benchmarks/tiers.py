"""``python -m benchmarks.tiers``: measure the throughput of one Collector; write the table of docs/scale-out.md.

Runs a real Collector with the configurations of this repository and a different exporter. Four connections post
batches of 512 spans; the run ends when the last span has arrived. Messages contain random text, so that they
compress no better than real ones.
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
    """Return encoded and compressed batches. Every span is a trace of its own, for tail sampling."""
    provider = TracerProvider(resource=Resource({"service.name": "bench"}), shutdown_on_exit=False)
    tracer, contexts = provider.get_tracer("spancast"), ContextCache()
    bodies: list[bytes] = []
    for _ in range(BATCHES):
        records = []
        for _ in range(BATCH):
            messages = MESSAGES.replace("order 4711", os.urandom(100).hex())
            attributes = {**ATTRIBUTES, "gen_ai.input.messages": messages}
            span: Any = tracer.start_span("chat gpt-4o", attributes=attributes)
            span.end()
            records.append(record_of(span, attributes, span.status, contexts))
        bodies.append(gzip.compress(SpanEncoder().payload(records).protobuf, 6))
    return bodies


def config(tier: str, port: int, directory: str) -> dict[str, Any]:
    """Return the tier's configuration with an exporter that sends to the benchmark's receiver."""
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


def run(tier: str, bodies: list[bytes], port: int) -> dict[str, float]:
    """Post all of ``bodies`` and return spans/s, CPU and memory of the Collector."""
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
        senders = [threading.Thread(target=post, args=(bodies[n::SENDERS],)) for n in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        posted_s = time.perf_counter() - started
        arrived, wanted = 0, len(bodies) * BATCH
        while arrived < wanted and time.perf_counter() - started < 300:
            arrived += report(port, {})["calls"]
            time.sleep(0.05)
        total_s = time.perf_counter() - started
        stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        process.terminate()
        process.wait(30)
    if arrived != wanted:
        raise SystemExit(f"{tier}: expected {wanted} spans at the receiver, got {arrived}")
    return {
        "posted_per_s": wanted / posted_s, "per_s": wanted / total_s,
        "cpu_us": (int(stat[11]) + int(stat[12])) / _TICKS / wanted * 1e6,
        "peak_mib": int(peak[1]) / 1024 if peak else 0.0,
    }  # fmt: skip


def post(bodies: list[bytes]) -> None:
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    for body in bodies:
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/traces", body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 200


def main() -> None:
    bodies = payloads()
    size = sum(map(len, bodies)) / BATCH / BATCHES
    with receiver(1) as [port]:
        rows = {tier: run(tier, bodies, port) for tier in ("agent", "gateway")}
    lines = [
        f"| {name} | {one['per_s']:,.0f} | {one['cpu_us']:.0f} | {one['peak_mib']:.0f} MiB |"
        for name, one in rows.items()
    ]
    caption = (
        f"Measured on {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores shared by sender, Collector and receiver;"
        f" {BATCH * BATCHES:,} spans of {len(ATTRIBUTES)} attributes, {size:.0f} bytes each on the wire (gzip)."
    )
    head = ["| tier | spans/s in and out | µs CPU per span | peak memory |", "|---|---|---|---|"]
    text = "\n".join([caption, "", *head, *lines])
    print(text)
    if "--write" in sys.argv:
        page = PAGE.read_text()
        marked = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda match: f"{match[1]}{text}\n{match[2]}", page))


if __name__ == "__main__":
    main()
