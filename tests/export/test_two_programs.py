"""Two programs of one user with the default spool and the same name for two destinations.

Real processes, real files, real receivers.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.destinations.otlp_receiver import OtlpReceiver, Request, ok, status
from tests.export.pipelines import call, otlp, pipeline_to, tracing

from spancast.diagnostics import Count, counters
from spancast.export.flush_report import FlushReport
from spancast.export.spool.directory import open_spool
from spancast.export.spool.protocol import route_key, route_name

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
PATIENCE_S = 60
SECRET = "tenant-canary"


@pytest.fixture
def one() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def two() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def started(directory: Path, destination: dict[str, Any], name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, HERE / "named_program.py", directory, json.dumps(destination), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    output, logged = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, logged
    return output, logged


def ran(directory: Path, destination: dict[str, Any], name: str, count: int) -> tuple[str, str]:
    return ended(started(directory, destination, name, count))


def named(requests: list[Request]) -> Counter[str]:
    """Return the names of spans in ``requests``."""
    return Counter(
        span.name
        for request in requests
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )


def names(name: str, count: int) -> Counter[str]:
    return Counter(f"{name} {number}" for number in range(count))


def test_spans_for_unreachable_address_are_sent_there_only(
    one: OtlpReceiver, two: OtlpReceiver, tmp_path: Path
) -> None:
    one.answer_with(status(503))
    output, _ = ran(tmp_path, otlp(one.url), "a", 60)
    assert "60 queued" in output
    _, logged = ran(tmp_path, otlp(two.url), "b", 40)
    assert "60 spans are queued for another destination named eu (other address or account)" in logged
    assert named(two.requests) == names("b", 40)
    before = len(one.requests)
    one.answer_with(ok())
    ran(tmp_path, otlp(f"{one.url}/v1/traces/"), "c", 1)
    assert named(one.requests[before:]) == names("a", 60) + names("c", 1), "another spelling of the address"
    assert named(two.requests) == names("b", 40)


def test_concurrent_programs_do_not_send_for_each_other(one: OtlpReceiver, two: OtlpReceiver, tmp_path: Path) -> None:
    chance = random.Random(7)
    for receiver in (one, two):
        receiver.answer_with(lambda _: chance.choice([ok(), status(503)]))
    running = [
        started(tmp_path, otlp(receiver.url), f"{name}{turn}", 60)
        for turn in range(2)
        for name, receiver in (("a", one), ("b", two))
    ]
    for process in running:
        ended(process)
    for receiver in (one, two):
        receiver.answer_with(ok())
        ran(tmp_path, otlp(receiver.url), "last", 1)
    for receiver, name in ((one, "a"), (two, "b")):
        wanted = names("last", 1) + names(f"{name}0", 60) + names(f"{name}1", 60)
        assert named(receiver.requests).keys() == wanted.keys()
        assert len(set(receiver.spans)) == len(wanted)


def test_closed_terminal_spans_are_sent_by_same_program(tmp_path: Path) -> None:
    queue, console = tmp_path / "queue", {"type": "console", "spans": "all"}
    process = started(queue, console, "first", 5)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stderr.close()
    output = process.stdout.read()
    process.stdout.close()
    process.wait(PATIENCE_S)
    assert "5 queued" in output
    other = tmp_path / "other_program.py"
    other.write_text((HERE / "named_program.py").read_text())
    command = [sys.executable, other, queue, json.dumps(console), "second", "3"]
    shown = subprocess.run(command, capture_output=True, check=True, env=ENVIRONMENT, text=True).stderr
    assert shown.count("second ") == 3
    assert "first " not in shown
    _, shown = ran(queue, console, "third", 1)
    assert shown.count("first ") == 5
    assert "second " not in shown


# The same with the pipelines of two programs in one process


def sent(entry: dict[str, Any], name: str, count: int, directory: Path) -> FlushReport:
    """Send ``count`` spans called ``name`` and a number to the destination ``entry``; stop before a retry."""
    pipeline = pipeline_to({"eu": {"spans": "all", **entry}}, directory)
    with tracing(pipeline) as tracer:
        for number in range(count):
            tracer.start_span(f"{name} {number}").end()
    return pipeline.shutdown(5)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"type": "otlp", "headers": {"X-Scope-OrgID": f"{SECRET}-a"}}, {"headers": {"X-Scope-OrgID": f"{SECRET}-b"}}),
        ({"type": "langfuse", "public_key": f"{SECRET}-a", "secret_key": "s"}, {"public_key": f"{SECRET}-b"}),
        ({"type": "honeycomb", "api_key": f"{SECRET}-a"}, {"api_key": f"{SECRET}-b"}),
        ({"type": "braintrust", "api_key": f"{SECRET}-a", "project_id": "p"}, {"project_id": "q"}),
    ],
    ids=lambda fields: fields.get("type", ""),
)
def test_two_accounts_at_one_address_are_two_routes(
    first: dict[str, Any], second: dict[str, Any], one: OtlpReceiver, tmp_path: Path
) -> None:
    first = {**first, "endpoint" if first["type"] == "otlp" else "base_url": one.url}
    one.answer_with(status(503))
    assert sent(first, "a", 5, tmp_path).destinations["eu"].queued == 5
    one.answer_with(ok())
    before = len(one.requests)
    assert sent({**first, **second}, "b", 5, tmp_path)
    assert named(one.requests[before:]) == names("b", 5)
    before = len(one.requests)
    assert sent(first, "c", 1, tmp_path)
    assert named(one.requests[before:]) == names("a", 5) + names("c", 1)
    for path in tmp_path.iterdir():
        assert SECRET.encode() not in path.read_bytes()


def test_replaced_secret_queued_spans_are_sent(one: OtlpReceiver, tmp_path: Path) -> None:
    entry = {"type": "langfuse", "public_key": "p", "secret_key": "old", "base_url": one.url}
    one.answer_with(status(401))
    assert sent(entry, "a", 5, tmp_path).destinations["eu"].queued == 5
    one.answer_with(ok())
    before = len(one.requests)
    assert sent({**entry, "secret_key": "new"}, "b", 1, tmp_path)
    assert named(one.requests[before:]) == names("a", 5) + names("b", 1)


@pytest.mark.parametrize("kind", ["file", "store"])
def test_queued_spans_of_one_program_are_not_written_to_file_of_other(kind: str, tmp_path: Path) -> None:
    (tmp_path / "in the way").touch()
    entry = {"type": kind, "path": str(tmp_path / "in the way" / "spans")}
    assert sent(entry, "first", 5, tmp_path / "queue").destinations["eu"].queued == 5
    assert sent({"type": kind, "path": str(tmp_path / "spans")}, "second", 3, tmp_path / "queue")
    written = (tmp_path / "spans").read_bytes()
    assert b"second 2" in written
    assert b"first " not in written


def test_dropped_spans_are_counted_for_their_destination(one: OtlpReceiver, two: OtlpReceiver, tmp_path: Path) -> None:
    counters.clear()
    one.answer_with(status(503))
    two.answer_with(status(503))
    ran(tmp_path, otlp(one.url), "a", 60)
    pipeline = pipeline_to({"eu": otlp(two.url)}, tmp_path, max_bytes=1 << 20)
    [theirs] = {*pipeline.spool.routes()} - {route_key("eu", pipeline.workers[0].route.fingerprint)}
    with tracing(pipeline) as tracer:
        for number in range(60):
            call(tracer, number, content="x" * 30_000)
    report = pipeline.flush(0.2)
    counts = {key: count for key, count in counters.read().items() if key.name == "dropped"}
    assert counts == {
        Count("dropped", theirs, "spool_full"): 60,
        Count("dropped", "eu", "spool_full"): report.destinations["eu"].dropped,
    }
    assert 0 < report.destinations["eu"].dropped == 60 - report.destinations["eu"].queued
    assert route_name(theirs) == "eu"
    pipeline.shutdown(0.1)
    counters.clear()


def test_route_key_without_fingerprint_is_name(tmp_path: Path) -> None:
    assert route_key("eu", "") == route_name("eu") == "eu"
    spool = open_spool(tmp_path, 1 << 20, 1e9)
    spool.register([route_key("eu", "0123456789ab")])
    assert spool.routes() == ["eu@0123456789ab"]
    spool.close()
