"""Contract tests of every destination type, with servers on real sockets.

A new type is included automatically; ``REACHED_BY`` has the field of its address.
"""

from __future__ import annotations

import gzip
import json
import logging
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.destinations.configs import CANARY, ELSEWHERE, REQUIRED, SAME_PLACE, config
from tests.destinations.otlp_receiver import OtlpReceiver, Request, ok, partial, status
from tests.destinations.payloads import payload
from tests.destinations.spans import LEAKS
from tests.encoding.test_conventions import TOOLS
from tests.export.pipelines import PATIENCE_S, pipeline_to, report_when
from tests.ports import own_port

from spancast.config.settings import load
from spancast.destinations.otlp_vendors import OTLP_VENDORS
from spancast.destinations.protocol import Delivered, Retry
from spancast.destinations.registry import DESTINATIONS, create, fields
from spancast.export import delivery_worker
from spancast.export.delivery_worker import BATCH_BYTES, BATCH_RECORDS
from spancast.export.pipeline import ExportPipeline
from spancast.model import semconv
from spancast.testing import check_destination

REACHED_BY = {
    "otlp": "endpoint", "otel-collector": "endpoint", "jaeger": "endpoint", "webhook": "url", "langsmith": "endpoint",
    "posthog": "endpoint", "sentry": "otlp_endpoint", "datadog": "url",
}  # fmt: skip
LOCAL = {"file", "console", "store", "exporter"}
NO_HTTP = LOCAL | {"postgres", "parquet", "kafka", "redis"}
ENGINES = {"clickhouse", "postgres", "bigquery", "snowflake", "s3", "parquet", "kafka", "redis", "firehose"}
"""Types tested with their servers in a file of ``tests/destinations/`` each."""
CLOUDS = {"google-cloud-trace", "azure-monitor"}
"""Types with the credentials of a cloud, tested in ``tests/destinations/test_cloud_auth.py``."""
NATIVE = {kind for kind, row in OTLP_VENDORS.items() if row.native}
POSTING = [kind for kind in DESTINATIONS if kind not in LOCAL | ENGINES | CLOUDS]


def driven() -> list[str]:
    """Return the types of ``POSTING`` whose code differs: of vendors with the same shape of row only the first.

    Their rows are compared with golden files in ``tests/destinations/test_otlp_vendors.py``.
    """
    found: dict[object, str] = {}
    for kind in POSTING:
        row = OTLP_VENDORS.get(kind)
        has_limit = row is not None and bool(row.max_batch_spans or row.max_batch_bytes)
        shape = (row.accepted, bool(row.basic), bool(row.resource), has_limit) if row else kind
        found.setdefault(shape, kind)
    return list(found.values())


DRIVEN = driven()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(delivery_worker, "FIRST_BACKOFF_S", 0.02)
    monkeypatch.setattr(delivery_worker, "BATCH_DELAY_S", 0.01)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def entry_of(kind: str, url: str, **others: Any) -> dict[str, Any]:
    address = {REACHED_BY.get(kind, "base_url"): url}
    # The products' own intakes are tested in ``tests/destinations/test_native_intakes.py``.
    intake = {"intake": "otlp"} if kind in NATIVE else {}
    return {"type": kind, **REQUIRED[kind], **address, **intake, "spans": "all", "timeout": PATIENCE_S, **others}


@dataclass
class Sender:
    pipeline: ExportPipeline

    def conversation(self, calls: int = 1, **more: Any) -> None:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.pipeline.processor)
        tracer = provider.get_tracer("spancast")
        with tracer.start_as_current_span("group", attributes={semconv.TRACE_METADATA + "order_id": "ORD-12345"}):
            for _ in range(calls):
                tracer.start_span("chat", attributes={**TOOLS, **more}).end()


def sending(kind: str, receiver: OtlpReceiver, directory: Path | None = None, **others: Any) -> Sender:
    return Sender(pipeline_to({"one": entry_of(kind, receiver.url, **others)}, directory))


def body_of(request: Request) -> bytes:
    return gzip.decompress(request.body) if request.body[:2] == b"\x1f\x8b" else request.body


@pytest.mark.parametrize("kind", POSTING)
def test_every_type_delivers_tests_its_connection_and_hides_its_credentials(kind: str, receiver: OtlpReceiver) -> None:
    given = load(None, {"destinations": {"one": entry_of(kind, receiver.url)}}).destinations["one"]
    to = create(given, "one")
    batch = payload()
    assert [to.deliver(batch, PATIENCE_S), to.test_connection(PATIENCE_S)] == [Delivered()] * 2
    receiver.answer_with(lambda request: status(401, json.dumps(dict(request.headers)).encode()))
    outcome = to.deliver(batch, PATIENCE_S)
    assert isinstance(outcome, Retry)
    assert "401" in outcome.reason
    assert DESTINATIONS[kind].title in outcome.reason, "the reason names the product"
    assert CANARY not in f"{outcome} {to!r} {given!r}"
    assert {ids for ids in receiver.spans if int(ids[0], 16) != 1} == {
        (one.trace_id, one.span_id) for one in batch.spans
    }
    to.close()


@pytest.mark.parametrize("kind", DRIVEN)
def test_check_destination_passes(kind: str, receiver: OtlpReceiver) -> None:
    check_destination(
        lambda: entry_of(kind, receiver.url),
        unreachable=lambda: entry_of(kind, f"http://127.0.0.1:{own_port()}"),
        secrets=[CANARY],
    )
    # Without the spans of a connection test, whose trace id is 1.
    assert len({ids for ids in receiver.spans if int(ids[0], 16) != 1}) == 6


@pytest.mark.parametrize("kind", DRIVEN)
@pytest.mark.parametrize("fault", ["500", "503", "429"])
def test_temporary_error_is_retried(kind: str, fault: str, receiver: OtlpReceiver) -> None:
    headers = {"Retry-After": "0.1"} if fault == "429" else {}
    receiver.answer_with(status(int(fault), headers=headers), ok())
    sender = sending(kind, receiver)
    sender.conversation()
    report = sender.pipeline.flush(PATIENCE_S)
    assert report, str(report)
    assert len(set(receiver.spans)) == 2
    sender.pipeline.shutdown()


@pytest.mark.parametrize("kind", DRIVEN)
@pytest.mark.parametrize("code", [400, 404])
def test_permanent_error_is_a_dead_letter(kind: str, code: int, receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(code, b"no"))
    sender = sending(kind, receiver)
    sender.conversation()
    report = sender.pipeline.flush(PATIENCE_S)
    assert (report.destinations["one"].dead_lettered, report.destinations["one"].queued) == (2, 0)
    for buried in sender.pipeline.spool.dead_letters():
        assert str(code) in buried.reason
        assert DESTINATIONS[kind].title in buried.reason, "the reason names the product"
        assert CANARY not in buried.reason
    sender.pipeline.shutdown()


@pytest.mark.parametrize("kind", [kind for kind in DRIVEN if kind != "webhook"])
def test_partial_success_counts_rejected_spans(kind: str, receiver: OtlpReceiver) -> None:
    receiver.answer_with(partial(1, "too old"))
    sender = sending(kind, receiver)
    sender.conversation(calls=3)
    report = sender.pipeline.flush(PATIENCE_S)
    assert (report.destinations["one"].delivered, report.destinations["one"].dead_lettered) == (3, 1)
    sender.pipeline.shutdown()


@pytest.mark.parametrize("kind", DRIVEN)
def test_random_failures_lose_nothing(kind: str, receiver: OtlpReceiver) -> None:
    chance = random.Random(kind)
    receiver.answer_with(lambda _: chance.choice([ok(), ok(), status(503), status(429)]))
    sender = sending(kind, receiver)
    for _ in range(5):
        sender.conversation(calls=2)
        sender.pipeline.flush(0.05)
    report = sender.pipeline.flush(PATIENCE_S)
    assert report, str(report)
    assert len(set(receiver.spans)) == 15
    sender.pipeline.shutdown()


@pytest.mark.parametrize("kind", DRIVEN)
def test_span_larger_than_the_servers_limit_is_truncated(kind: str, receiver: OtlpReceiver) -> None:
    """One value of 3 MB among others, a server that accepts 1 MB: all spans arrive, the large one truncated."""
    receiver.answer_with(lambda request: status(413) if len(request.body) > 1 << 20 else ok())
    sender = sending(kind, receiver)
    sender.conversation(calls=3)
    sender.conversation(calls=1, **{semconv.INPUT_MESSAGES: json.dumps([{"role": "user", "parts": [
        {"type": "text", "content": "long " * 600_000}]}])})  # fmt: skip
    report = sender.pipeline.flush(PATIENCE_S)
    assert report, str(report)
    # Without the spans of a connection test, whose trace id is 1.
    assert len({ids for ids in receiver.spans if int(ids[0], 16) != 1}) == 6
    sender.pipeline.shutdown()


@pytest.mark.parametrize(
    "kind", [name for name, row in OTLP_VENDORS.items() if row.max_batch_spans or row.max_batch_bytes]
)
def test_batch_over_the_limit_is_sent_as_several_requests(kind: str, receiver: OtlpReceiver) -> None:
    row = OTLP_VENDORS[kind]
    most_spans, most_bytes = row.max_batch_spans or BATCH_RECORDS, row.max_batch_bytes or BATCH_BYTES
    assert most_spans <= BATCH_RECORDS
    assert most_bytes <= BATCH_BYTES
    sender = sending(kind, receiver, compression="none")
    text = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "long " * 800}]}])
    with sender.pipeline.span_queue._processing:  # one batch
        sender.conversation(calls=499, **{semconv.INPUT_MESSAGES: text})
    report = sender.pipeline.flush(PATIENCE_S)
    assert (report.destinations["one"].delivered, report.destinations["one"].queued) == (500, 0)
    assert len(receiver.spans) == len(set(receiver.spans)) == 500
    assert max(len(request.spans) for request in receiver.requests) <= most_spans
    assert max(len(request.body) for request in receiver.requests) <= most_bytes
    sender.pipeline.shutdown()


@pytest.mark.parametrize("kind", DRIVEN)
def test_privacy_mode_sends_and_stores_no_content(kind: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    """No content is in a payload or on disk; names, tokens, cost and the user's keys are."""
    receiver.answer_with(status(503), ok())
    sender = sending(kind, receiver, tmp_path, privacy_mode=True)
    sender.conversation(**LEAKS)
    assert sender.pipeline.flush(PATIENCE_S)
    sent = b"".join(body_of(request) for request in receiver.requests)
    sender.pipeline.shutdown()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    for place in (sent, kept):
        assert b"gpt-4o" in place
        assert b"ORD-12345" in place
        assert b"session_abc" in place
        assert b"overflow-kept" in place
        assert b"canary" not in place


@pytest.mark.parametrize("kind", DRIVEN)
def test_credentials_are_only_in_requests(
    kind: str, receiver: OtlpReceiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answer_with(status(401))
    sender = sending(kind, receiver, tmp_path, headers={"X-Own": f"{CANARY}-own"})
    sender.conversation()
    report = report_when(sender.pipeline.flush, lambda seen: seen.destinations["one"].last_error)
    # Only now: on a busy machine a second attempt may come before the report.
    receiver.answer_with(ok())
    sender.pipeline.flush(PATIENCE_S)
    [first, *_] = receiver.requests
    assert first.headers["x-own"] == f"{CANARY}-own"
    secret = OTLP_VENDORS[kind].headers if kind in OTLP_VENDORS else {}
    for name, template in secret.items():
        if "{" in template and name.lower() in first.headers:
            assert first.headers[name.lower()]
    worker = sender.pipeline.workers[0]
    shown = f"{report} {worker.route} {worker.route.destination!r} {sender.pipeline.spool.dead_letters()} {caplog.text}"
    assert CANARY not in shown
    sender.pipeline.shutdown()
    for path in tmp_path.iterdir():
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes()


@pytest.mark.parametrize("kind", DRIVEN)
def test_connection_test_returns_the_outcome(kind: str, receiver: OtlpReceiver) -> None:
    sender = sending(kind, receiver)
    destination = sender.pipeline.workers[0].route.destination
    assert type(destination.test_connection(PATIENCE_S)).__name__ == "Delivered"
    receiver.answer_with(status(401))
    outcome = destination.test_connection(PATIENCE_S)
    assert type(outcome).__name__ != "Delivered"
    assert "401" in outcome.reason
    sender.pipeline.shutdown()


# Fingerprints: the address and account of a destination in a spool that programs share.


@pytest.mark.parametrize("kind", DESTINATIONS)
def test_every_field_is_part_of_the_fingerprint_or_not(kind: str) -> None:
    own = {fact.name for fact in fields(kind) if not fact.is_common}
    assert not ELSEWHERE[kind].keys() & SAME_PLACE[kind].keys()
    assert (ELSEWHERE[kind].keys() | SAME_PLACE[kind].keys()) - {"compression"} == own - {"compression"}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in DESTINATIONS for name in ELSEWHERE[kind]])
def test_fingerprint_differs_by_address_and_account(kind: str, name: str) -> None:
    assert config(kind, **{name: ELSEWHERE[kind][name]}).fingerprint() != config(kind).fingerprint()


@pytest.mark.parametrize("kind", DESTINATIONS)
def test_fingerprint_ignores_filters_limits_and_replaced_credentials(kind: str) -> None:
    rules = {"privacy_mode": True, "sampling_rate": 0.5, "spans": "all", "mask": ["x"]}
    if not config(kind).has_own_format:
        rules["convention"] = "langfuse"
    network = {"timeout": 3, "verify": False, "proxy": "http://proxy.test"} if kind not in NO_HTTP else {}
    other = config(kind, **rules, **network, **SAME_PLACE[kind])
    assert other.fingerprint() == config(kind).fingerprint()


REPLACED_BY_HEADERS = {"bigquery": {"service_account_key": None}}


@pytest.mark.parametrize("kind", [kind for kind in DESTINATIONS if kind not in NO_HTTP])
def test_fingerprint_includes_headers(kind: str, tmp_path: Path) -> None:
    certificate = tmp_path / "client.pem"
    certificate.touch()
    given = [
        {},
        {"headers": {"X-Scope-OrgID": "one"}},
        {"headers": {"X-Scope-OrgID": "two"}},
        {"headers": {"Authorization": "one"}},
        *({"headers_from": function, **REPLACED_BY_HEADERS.get(kind, {})} for function in (json.loads, json.dumps)),
        {"cert_file": str(certificate)},
    ]
    assert len({config(kind, **fields).fingerprint() for fields in given}) == len(given)
    lower = config(kind, headers={"x-scope-orgid": "one"}).fingerprint()
    assert lower == config(kind, headers={"X-Scope-OrgID": "one"}).fingerprint()


def addressed(kind: str, url: str) -> str:
    return config(kind, **{ADDRESS.get(kind, REACHED_BY.get(kind, "base_url")): url}).fingerprint()


ADDRESS = {"s3": "endpoint", "firehose": "endpoint", "clickhouse": "host"}
URLS = [kind for kind in DESTINATIONS if kind not in NO_HTTP]


@pytest.mark.parametrize("kind", URLS)
def test_fingerprint_normalizes_the_address(kind: str) -> None:
    same = ["https://host.test", "https://host.test/", "https://HOST.Test:443", "https://host.test.:443/"]
    if kind == "clickhouse":
        same = ["host.test", "https://host.test:8443", "HOST.Test:8443/"]
    assert len({addressed(kind, url) for url in same}) == 1
    others = ["https://host.test:444", "http://host.test", "https://test", "https://host.test.evil"]
    assert len({addressed(kind, url) for url in [same[0], *others]}) == 5


@pytest.mark.parametrize("kind", [kind for kind in URLS if kind not in ("clickhouse", "datadog")])
def test_fingerprint_includes_user_and_query_of_the_address(kind: str) -> None:
    urls = ["https://host.test/in", "https://host.test/out", "https://me@host.test/in", "https://me:1@host.test/in"]
    assert (
        len({addressed(kind, url) for url in [*urls, "https://host.test/in?key=1", "https://host.test/in?key=2"]}) == 6
    )


@pytest.mark.parametrize("kind", DESTINATIONS)
def test_fingerprint_is_a_hash_without_credentials(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"api-key={CANARY}")
    found = config(kind)
    assert re.fullmatch(r"[0-9a-f]{12}", found.fingerprint())
    assert CANARY not in repr(found.place())


def test_fingerprint_is_equal_in_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = [kind for kind in DESTINATIONS if kind != "console"]
    here = {kind: config(kind).fingerprint() for kind in kinds if kind != "exporter"}
    code = (
        "import json, sys; sys.path[:0] = [sys.argv[1]]\n"
        "from tests.destinations.configs import REQUIRED, config\n"
        "print(json.dumps({kind: config(kind).fingerprint() for kind in json.loads(sys.argv[2])}))"
    )
    root = str(Path(__file__).parents[2])
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        command = [sys.executable, "-c", code, root, json.dumps(list(here))]
        assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout) == here


LOCALLY: dict[str, dict[str, Any]] = {
    "file": {"path": "spans.jsonl"}, "store": {"path": "spans.db"}, "console": {}, "exporter": {"exporter": "console"},
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(LOCAL))
def test_local_destination_in_privacy_mode_writes_no_content(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = {"type": kind, "spans": "all", "privacy_mode": True, **LOCALLY[kind]}
    sender = Sender(pipeline_to({"one": entry}, None))
    sender.conversation(calls=3, **LEAKS)
    report = sender.pipeline.flush(PATIENCE_S)
    assert report.destinations["one"].delivered == 4, str(report)
    assert type(sender.pipeline.workers[0].route.destination.test_connection(PATIENCE_S)).__name__ == "Delivered"
    sender.pipeline.shutdown()
    shown = capfd.readouterr()
    seen = (shown.out + shown.err).encode() + b"".join(
        path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
    )
    # The SDK's console exporter writes to the stdout of its import, which is not captured.
    assert b"chat" in seen or kind == "exporter"
    assert b"canary" not in seen


def test_every_destination_type_is_tested() -> None:
    assert set(POSTING) | LOCAL | ENGINES | CLOUDS == set(DESTINATIONS)
    assert set(ELSEWHERE) == set(SAME_PLACE) == set(DESTINATIONS)
