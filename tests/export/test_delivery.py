"""Delivery of ended spans: every failure of a destination, without an effect on other destinations.

The receiver is a real server. The tests assert what arrived and what was reported, not times.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from tests.destinations.otlp_receiver import (
    OtlpReceiver,
    Reply,
    certificate,
    cut,
    deaf,
    grpc_status,
    hold,
    html,
    ok,
    partial,
    redirect,
    status,
)
from tests.destinations.spans import conversation, records
from tests.export.pipelines import PATIENCE_S, call, otlp, pipeline_to, pipeline_with, report_when, tracing
from tests.export.spool_records import Clock
from tests.ports import own_port

from spancast.destinations.config import DestinationConfig
from spancast.destinations.protocol import Delivered, Outcome, Payload, Retry
from spancast.destinations.span_exporter import ExporterDestination
from spancast.diagnostics import Count, counters
from spancast.encoding.encoder import SpanEncoder
from spancast.export import delivery_worker as worker_module
from spancast.export.delivery_worker import DeliveryWorker, Route
from spancast.export.filtering import DestinationFilter
from spancast.export.payload_cache import PayloadCache
from spancast.export.spool.memory import MemorySpool
from spancast.statistics import stats_of


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def healthy() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(worker_module, "BATCH_DELAY_S", 0.01)


@pytest.fixture(params=["disk", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "disk" else None


class SequentialIdGenerator(SpanExporter):
    """A destination that accepts every batch and records its number of spans."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.sizes.append(len(spans))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing."""


class AtMostThree(ExporterDestination):
    max_batch_spans = 3


class OneByOne(ExporterDestination):
    max_batch_bytes = 1


@pytest.mark.parametrize(("kind", "most"), [(AtMostThree, 3), (OneByOne, 1), (ExporterDestination, 10)])
def test_batches_respect_limits_of_destination(
    kind: type[ExporterDestination], most: int, directory: Path | None
) -> None:
    exporter = SequentialIdGenerator()
    pipeline = pipeline_with({"one": kind("one", exporter, SpanEncoder())}, directory)
    with tracing(pipeline) as tracer, pipeline.span_queue._processing:
        for number in range(10):
            call(tracer, number)
    assert pipeline.flush(PATIENCE_S)
    assert (sum(exporter.sizes), max(exporter.sizes)) == (10, most)
    pipeline.shutdown()


TRANSIENT: dict[str, Reply] = {
    "503": status(503),
    "500": status(500),
    "429 with Retry-After": status(429, headers={"Retry-After": "0.2"}),
    "closed in the middle": cut(),
    "closed in the middle of the answer": cut(takes=True),
}


@pytest.mark.parametrize("fault", TRANSIENT)
def test_retryable_failure_spans_arrive(
    fault: str, receiver: OtlpReceiver, healthy: OtlpReceiver, directory: Path | None
) -> None:
    receiver.answer_with(TRANSIENT[fault], TRANSIENT[fault], ok())
    pipeline = pipeline_to({"faulty": otlp(receiver.url), "healthy": otlp(healthy.url)}, directory)
    with tracing(pipeline) as tracer:
        made = {call(tracer, number) for number in range(20)}
    report = pipeline.flush(PATIENCE_S)
    assert report, str(report)
    assert report.destinations["faulty"].delivered == report.destinations["healthy"].delivered == 20
    assert set(receiver.spans) == set(healthy.spans) == made
    assert len(healthy.spans) == 20
    assert pipeline.shutdown(PATIENCE_S)


def test_dead_destination_keeps_spans_queued_and_others_deliver(healthy: OtlpReceiver, tmp_path: Path) -> None:
    port = own_port()
    pipeline = pipeline_to({"dead": otlp(f"http://127.0.0.1:{port}"), "healthy": otlp(healthy.url)}, tmp_path)
    with tracing(pipeline) as tracer:
        made = {call(tracer, number) for number in range(1000)}
    assert healthy.wait_for(lambda: len(healthy.spans) == 1000)
    report = report_when(
        pipeline.flush, lambda report: report.destinations["healthy"] and report.destinations["dead"].last_error
    )
    assert not report
    assert report.destinations["healthy"]
    assert (report.destinations["dead"].delivered, report.destinations["dead"].queued) == (0, 1000)
    assert "refused" in report.destinations["dead"].last_error
    pipeline.shutdown(PATIENCE_S)
    with OtlpReceiver(port=port) as back:
        again = pipeline_to({"dead": otlp(back.url), "healthy": otlp(healthy.url)}, tmp_path)
        assert back.wait_for(lambda: len(back.spans) >= 1000), str(again.flush(1))
        assert set(back.spans) == made
        assert set(healthy.spans) == made
        again.shutdown()


def test_slow_destination_does_not_delay_others(receiver: OtlpReceiver, healthy: OtlpReceiver) -> None:
    receiver.answer_with(hold(), ok())
    pipeline = pipeline_to({"slow": otlp(receiver.url, timeout=60), "healthy": otlp(healthy.url)}, None)
    with tracing(pipeline) as tracer:
        made = {call(tracer, number) for number in range(50)}
        assert healthy.wait_for(lambda: set(healthy.spans) == made)
    assert receiver.wait_for(lambda: len(receiver.requests) > 0)
    receiver.release()
    assert pipeline.flush(PATIENCE_S)
    assert set(receiver.spans) == made
    pipeline.shutdown()


REFUSED: dict[str, tuple[Reply, str]] = {
    "400": (status(400, b"bad span"), "400"),
    "404": (status(404), "404"),
    "a redirect": (redirect("http://example.test/login"), "302"),
    "a page": (html(), "HTML"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_permanent_rejection_is_listed_with_reason(
    fault: str, receiver: OtlpReceiver, healthy: OtlpReceiver, directory: Path | None
) -> None:
    reply, reason = REFUSED[fault]
    receiver.answer_with(reply)
    pipeline = pipeline_to({"faulty": otlp(receiver.url), "healthy": otlp(healthy.url)}, directory)
    with tracing(pipeline) as tracer:
        made = {call(tracer, number) for number in range(3)}
    report = pipeline.flush(PATIENCE_S)
    assert not report
    assert (report.destinations["faulty"].dead_lettered, report.destinations["faulty"].queued) == (3, 0)
    assert reason in str(report)
    buried = pipeline.spool.dead_letters()
    assert {(item.trace_id, item.span_id) for item in buried} == made
    assert all(reason in item.reason for item in buried), buried[0].reason
    assert set(healthy.spans) == made
    pipeline.shutdown()


def test_rejection_dead_letters_only_the_faulty_span(receiver: OtlpReceiver) -> None:
    receiver.answer_with(lambda request: status(400, b"no") if b"poison" in request.body else ok())
    pipeline = pipeline_to({"picky": otlp(receiver.url)}, None)
    with tracing(pipeline) as tracer:
        made = [call(tracer, number) for number in range(100)]
        bad = call(tracer, 0, note="poison")
        made += [call(tracer, number) for number in range(100)]
    report = pipeline.flush(PATIENCE_S)
    assert (report.destinations["picky"].delivered, report.destinations["picky"].dead_lettered) == (200, 1)
    assert sorted(receiver.spans) == sorted(made)
    assert [(item.trace_id, item.span_id) for item in pipeline.spool.dead_letters()] == [bad]
    pipeline.shutdown()


def test_too_large_batch_is_split_and_span_truncated(receiver: OtlpReceiver) -> None:
    receiver.answer_with(lambda request: status(413) if len(request.body) > 60_000 else ok())
    pipeline = pipeline_to({"small": otlp(receiver.url)}, None)
    with tracing(pipeline) as tracer:
        made = [call(tracer, number, note="x" * 20_000) for number in range(20)]
        made.append(call(tracer, 0, note="y" * 1_000_000))
    assert pipeline.flush(PATIENCE_S)
    assert sorted(receiver.spans) == sorted(made)
    pipeline.shutdown()


def test_partial_success_counts_rejected_spans(receiver: OtlpReceiver, healthy: OtlpReceiver) -> None:
    receiver.answer_with(partial(2, "too old"))
    pipeline = pipeline_to({"half": otlp(receiver.url), "healthy": otlp(healthy.url)}, None)
    with tracing(pipeline) as tracer:
        for number in range(5):
            call(tracer, number)
    report = pipeline.flush(PATIENCE_S)
    assert not report
    half = report.destinations["half"]
    assert (half.delivered, half.dead_lettered, half.queued) == (3, 2, 0)
    assert len(receiver.requests) == 1
    assert report.destinations["healthy"].delivered == 5
    pipeline.shutdown()


def test_partial_success_of_more_spans_than_sent_rejects_those_sent(receiver: OtlpReceiver) -> None:
    receiver.answer_with(partial(1_000_000_000, "too old"))
    pipeline = pipeline_to({"one": otlp(receiver.url)}, None)
    before = counters.read()
    with tracing(pipeline) as tracer:
        for number in range(5):
            call(tracer, number)
    pipeline.flush(PATIENCE_S)
    since = counters.read() - before
    assert (since[Count("delivered", "one")], since[Count("rejected", "one")]) == (0, 5)
    pipeline.shutdown()


def test_each_outage_and_each_recovery_is_logged_once(receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answer_with(status(503), status(503), ok(), status(503), ok())
    pipeline = pipeline_to({"one": otlp(receiver.url)}, None)
    with tracing(pipeline) as tracer:
        for _ in range(2):
            call(tracer)
            assert pipeline.flush(PATIENCE_S)
    pipeline.shutdown()
    failed = f"export to one failed: OTLP at {receiver.url[7:]}/v1/traces: HTTP 503; will retry"
    assert [record.getMessage() for record in caplog.records] == [failed, "export to one works again"] * 2


@pytest.mark.parametrize("after_s", [None, 600.0])
@pytest.mark.parametrize("set_back_s", [7200, 100 * 86_400])
def test_clock_set_back_during_backoff_does_not_delay_delivery(after_s: float | None, set_back_s: int) -> None:
    clock = Clock()
    spool = MemorySpool(1 << 28, clock=clock)
    taken: list[int] = []

    class Flaky:
        encoder = SpanEncoder()

        def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
            taken.append(len(payload.spans))
            return Retry("503", after_s) if len(taken) == 1 else Delivered()

    rules = DestinationFilter("one", DestinationConfig.model_validate({"type": "any", "spans": "all"}))
    route = Route("one", rules, cast("Any", Flaky()))
    spool.register([route.key])
    spool.put(records(conversation()), {})
    worker = DeliveryWorker(route, spool, PayloadCache(), clock)
    assert not worker.deliver_next()
    assert not worker.deliver_next(), "the back-off"
    clock.now_s -= set_back_s
    assert worker.deliver_next()
    assert (len(taken), spool.state(route.key).queued) == (2, 0)
    spool.close()


def test_wrong_certificate_spans_stay_queued(healthy: OtlpReceiver, tmp_path: Path) -> None:
    with OtlpReceiver(tls=certificate(tmp_path)) as receiver:
        trusting = otlp(receiver.url, ca=str(tmp_path / "ca.pem"))
        pipeline = pipeline_to({"tls": otlp(receiver.url), "healthy": otlp(healthy.url)}, tmp_path)
        with tracing(pipeline) as tracer:
            made = call(tracer)
        report = report_when(
            pipeline.flush, lambda report: report.destinations["healthy"] and report.destinations["tls"].last_error
        )
        assert "certificate" in report.destinations["tls"].last_error.lower()
        assert report.destinations["tls"].queued == 1
        assert healthy.spans == [made]
        pipeline.shutdown(0.1)
        del trusting


def test_grpc_delivery(receiver: OtlpReceiver) -> None:
    receiver.answer_with(grpc_status("UNAVAILABLE"), grpc_status("RESOURCE_EXHAUSTED", retry_s=0.1), ok())
    pipeline = pipeline_to({"grpc": otlp(f"http://{receiver.grpc_target}", protocol="grpc")}, None)
    with tracing(pipeline) as tracer:
        made = [call(tracer, number) for number in range(5)]
    assert pipeline.flush(PATIENCE_S)
    assert sorted(receiver.spans) == sorted(made)
    pipeline.shutdown()


def test_process_exit_is_not_delayed(tmp_path: Path) -> None:
    with OtlpReceiver() as receiver:
        receiver.answer_with(deaf())
        pipeline = pipeline_to({"deaf": otlp(receiver.url, timeout=60)}, tmp_path)
        with tracing(pipeline) as tracer:
            call(tracer)
        done = threading.Event()
        threading.Thread(target=lambda: (pipeline.shutdown(0.5), done.set()), daemon=True).start()
        assert done.wait(PATIENCE_S), "shutdown(0.5) hangs on a destination that never answers"
        receiver.release()


def test_every_received_span_is_counted(receiver: OtlpReceiver, healthy: OtlpReceiver) -> None:
    """Received = delivered + queued + dropped + dead-lettered + filtered, for every destination."""
    before = counters.read()
    receiver.answer_with(ok(), status(400), status(503), ok())
    pipeline = pipeline_to(
        {
            "faulty": otlp(receiver.url),
            "some": otlp(healthy.url, sampling_rate=0.3),
            "llm": otlp(healthy.url, spans="genai"),
            "dear": otlp(healthy.url, filter_rules={"groups": [{"rules": [
                {"field": "prompt_tokens", "operator": "gt", "value": 50}]}]}),
        },
        None,
    )  # fmt: skip
    with tracing(pipeline) as tracer:
        for number in range(100):
            call(tracer, number)
    other = tracer_of_others(pipeline)
    for _ in range(10):
        other()
    pipeline.flush(PATIENCE_S)
    counts = stats_of(counters.read() - before, pipeline.span_queue.queued, pipeline.queues())
    assert counts.received == 110
    for name in ("faulty", "some", "llm", "dear"):
        one = counts.destinations[name]
        total = one.delivered + one.queued + one.dead_lettered + one.rejected + one.sampled_out + one.filtered
        total += one.non_genai + sum(one.dropped.values())
        assert total == 110, (name, counts)
    assert counts.destinations["llm"].non_genai == 10
    assert 0 < counts.destinations["some"].sampled_out < 110
    pipeline.shutdown()


def tracer_of_others(pipeline: object) -> Callable[[], None]:
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(pipeline.processor)  # type: ignore[attr-defined]
    tracer = provider.get_tracer("opentelemetry.instrumentation.asgi")
    return lambda: tracer.start_span("GET /").end()


@pytest.mark.parametrize(("bound", "most"), [("_max_spans", 10), ("_max_bytes", 30_000)])
def test_full_queue_drops_are_counted(
    bound: str, most: int, monkeypatch: pytest.MonkeyPatch, receiver: OtlpReceiver
) -> None:
    """The queue is bounded in spans and in bytes."""
    pipeline = pipeline_to({"one": otlp(receiver.url)}, None)
    monkeypatch.setattr(pipeline.span_queue, bound, most)
    before = counters.read()[Count("dropped", reason="queue_full")]
    with pipeline.span_queue._processing, tracing(pipeline) as tracer:
        for number in range(600):
            call(tracer, number)
    report = pipeline.flush(PATIENCE_S)
    dropped = counters.read()[Count("dropped", reason="queue_full")] - before
    assert dropped > 0
    assert report.dropped == dropped
    assert report.destinations["one"].delivered == 600 - dropped
    pipeline.shutdown()


def test_genai_parent_replaces_other_spans(receiver: OtlpReceiver, healthy: OtlpReceiver) -> None:
    """For a destination of GenAI spans only, the parent is the nearest GenAI ancestor, or the span is a root."""
    from opentelemetry.sdk.trace import TracerProvider
    from tests.destinations.otlp_receiver import ExportTraceServiceRequest

    pipeline = pipeline_to({"llm": otlp(receiver.url, spans="genai"), "all": otlp(healthy.url)}, None)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(pipeline.processor)
    ours, http = provider.get_tracer("spancast"), provider.get_tracer("http")
    with (
        http.start_as_current_span("POST /chat") as top,
        ours.start_as_current_span("group") as group,
        http.start_as_current_span("retrieve"),
        http.start_as_current_span("GET"),
    ):
        call(ours)
    assert pipeline.flush(PATIENCE_S)

    def tree(requests: list[bytes]) -> dict[str, tuple[bytes, bytes]]:
        spans = [
            span
            for body in requests
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]
        return {span.name: (span.span_id, span.parent_span_id) for span in spans}

    llm = tree([request.body for request in receiver.requests])
    assert set(llm) == {"group", "chat gpt-4o"}
    assert llm["group"][1] == b""
    assert llm["chat gpt-4o"][1] == llm["group"][0] == group.get_span_context().span_id.to_bytes(8, "big")
    whole = tree([request.body for request in healthy.requests])
    assert whole["group"][1] == top.get_span_context().span_id.to_bytes(8, "big")
    assert whole["chat gpt-4o"][1] == whole["GET"][0]
    pipeline.shutdown()


def test_privacy_mode_everywhere_applies_to_spool_file(receiver: OtlpReceiver, tmp_path: Path) -> None:
    receiver.answer_with(status(503))
    private = otlp(receiver.url, privacy_mode=True)
    pipeline = pipeline_to({"one": private, "two": private}, tmp_path)
    with tracing(pipeline) as tracer:
        call(tracer, 1, session="kept")
    assert pipeline.span_queue.flush(PATIENCE_S)
    pipeline.shutdown(0.1)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"gpt-4o" in kept
    assert b"canary question" not in kept


def test_mask_everywhere_applies_to_spool_file(receiver: OtlpReceiver, tmp_path: Path) -> None:
    receiver.answer_with(status(503))
    masked = otlp(receiver.url, mask=[r"[a-z]+@example\.com", "canary question"])
    pipeline = pipeline_to({"one": masked, "two": masked}, tmp_path)
    with tracing(pipeline) as tracer:
        call(tracer, 1, **{"user.id": "ann@example.com"})
    assert pipeline.span_queue.flush(PATIENCE_S)
    pipeline.shutdown(0.1)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"gpt-4o" in kept
    assert b"[masked]" in kept
    assert b"canary question" not in kept
    assert b"ann@example" not in kept


def test_forked_child_sends_its_own_spans_only(receiver: OtlpReceiver, tmp_path: Path) -> None:
    pipeline = pipeline_to({"one": otlp(receiver.url)}, tmp_path)
    with tracing(pipeline) as tracer:
        made = [call(tracer, number) for number in range(100)]
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            own = [call(tracer, number) for number in range(50)]
            report = pipeline.flush(PATIENCE_S)
            os.write(writing, f"{int(bool(report))} {report.destinations['one'].delivered} {len(own)}".encode())
            os._exit(0)
        os.close(writing)
        made += [call(tracer, number) for number in range(100)]
    report = os.read(reading, 100)
    os.waitpid(child, 0)
    os.close(reading)
    assert pipeline.flush(PATIENCE_S)
    assert report.startswith(b"1 "), report
    assert len(receiver.spans) == len(set(receiver.spans)) == 250
    assert set(made) <= set(receiver.spans)
    pipeline.shutdown()
