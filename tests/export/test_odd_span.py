"""One failing span among 200 others: the others arrive, it is dead-lettered with the reason, the queue is empty."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from tests.destinations.otlp_receiver import OtlpReceiver
from tests.destinations.spans import conversation, records
from tests.export.pipelines import around, call, otlp, pipeline_to, pipeline_with, tracing

from spancast.destinations.protocol import Outcome, Payload
from spancast.destinations.span_exporter import ExporterDestination
from spancast.destinations.span_store import Store
from spancast.encoding.encoder import SpanEncoder
from spancast.errors import ConfigError
from spancast.export import delivery_worker as worker_module
from spancast.export.division import PROBES
from spancast.export.pipeline import ExportPipeline
from spancast.model import semconv

PATIENCE_S = 60.0
CONTENT = "canary of the span"
POSITIONS = [0, 100, 200]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "FIRST_BACKOFF_S", 0.02)


@pytest.fixture(params=["disk", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "disk" else None


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


class Picky(SpanExporter):
    """An exporter that succeeds unless ``fails`` returns an error or a result for one of the spans."""

    def __init__(self, fails: Callable[[ReadableSpan], BaseException | SpanExportResult | None]) -> None:
        self.fails = fails
        self.spans: list[tuple[str, str]] = []
        self.batches = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches += 1
        for span in spans:
            failure = self.fails(span)
            if isinstance(failure, BaseException):
                raise failure
            if failure is not None:
                return failure
        for span in spans:
            assert span.context is not None
            self.spans.append((f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing."""


def picky(fails: Callable[[ReadableSpan], BaseException | SpanExportResult | None]) -> tuple[Picky, Any]:
    exporter = Picky(fails)
    return exporter, ExporterDestination("picky", exporter, SpanEncoder())


def is_odd(span: ReadableSpan) -> bool:
    return CONTENT in (span.attributes or {}).values()


def assert_one_is_dead_lettered(pipeline: ExportPipeline, odd: tuple[str, str], reason: str) -> None:
    report = pipeline.flush(PATIENCE_S)
    of_one = report.destinations["one"]
    assert (of_one.delivered, of_one.dead_lettered, of_one.queued, report.dropped) == (200, 1, 0, 0), str(report)
    assert not report
    [buried] = pipeline.spool.dead_letters()
    assert (buried.trace_id, buried.span_id) == odd
    assert buried.reason.startswith(reason), buried.reason
    assert CONTENT not in buried.reason
    assert pipeline.flush(PATIENCE_S), "it is reported once, and nothing waits"


@pytest.mark.parametrize("position", POSITIONS)
def test_exporter_raises_for_one_span(position: int, directory: Path | None, caplog: pytest.LogCaptureFixture) -> None:
    exporter, destination = picky(lambda span: ValueError(f"no: {CONTENT}") if is_odd(span) else None)
    pipeline = pipeline_with({"one": destination}, directory)
    with tracing(pipeline) as tracer:
        good, odd = around(tracer, position, {"note": CONTENT})
    assert_one_is_dead_lettered(pipeline, odd, "exporter picky: it raised ValueError")
    assert sorted(exporter.spans) == sorted(good)
    assert CONTENT not in caplog.text
    pipeline.shutdown()


def test_exporter_returns_failure_for_one_span(directory: Path | None) -> None:
    exporter, destination = picky(lambda span: SpanExportResult.FAILURE if is_odd(span) else None)
    pipeline = pipeline_with({"one": destination}, directory)
    with tracing(pipeline) as tracer:
        good, odd = around(tracer, 100, {"note": CONTENT})
    assert_one_is_dead_lettered(pipeline, odd, "exporter picky: failure")
    assert sorted(exporter.spans) == sorted(good)
    pipeline.shutdown()


@pytest.mark.parametrize("error", [ConnectionError("gone"), MemoryError(), ModuleNotFoundError("no such package")])
def test_failure_for_every_span_is_retried(error: Exception, directory: Path | None) -> None:
    exporter, destination = picky(lambda _: error)
    pipeline = pipeline_with({"one": destination}, directory)
    with tracing(pipeline) as tracer:
        made = [call(tracer, number) for number in range(201)]
    report = pipeline.flush(0.5)
    of_one = report.destinations["one"]
    assert (of_one.delivered, of_one.dead_lettered, of_one.queued) == (0, 0, 201)
    assert of_one.last_error == f"exporter picky: it raised {type(error).__name__}"
    tries = pipeline.spool.state("one").attempts
    assert 0 < exporter.batches <= (tries + 1) * (1 + PROBES)
    exporter.fails = lambda _: None
    report = pipeline.flush(PATIENCE_S)
    assert report, str(report)
    assert sorted(exporter.spans) == sorted(made)
    assert pipeline.spool.dead_letters() == []
    pipeline.shutdown()


def test_missing_package_dead_letters_no_span() -> None:
    class Lacking:
        encoder = SpanEncoder()
        asked = 0

        def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
            self.asked += 1
            raise ConfigError("boto3 is not installed: pip install 'spancast[s3]'")

        test_connection = close = None

    destination: Any = Lacking()
    pipeline = pipeline_with({"one": destination}, None)
    with tracing(pipeline) as tracer:
        around(tracer, 0, {})
    of_one = pipeline.flush(0.2).destinations["one"]
    assert (of_one.dead_lettered, of_one.queued) == (0, 201)
    assert of_one.last_error == "boto3 is not installed: pip install 'spancast[s3]'"
    assert destination.asked <= pipeline.spool.state("one").attempts + 1, "the batch is not halved for it"
    destination.close = lambda: None
    pipeline.shutdown(0.1)


def test_requeued_dead_letter_does_not_block_others(directory: Path | None) -> None:
    exporter, destination = picky(lambda span: ValueError() if is_odd(span) else None)
    pipeline = pipeline_with({"one": destination}, directory)
    with tracing(pipeline) as tracer:
        good, odd = around(tracer, 100, {"note": CONTENT})
        assert_one_is_dead_lettered(pipeline, odd, "exporter picky: it raised ValueError")
        assert pipeline.spool.requeue("one") == 1
        of_one = pipeline.flush(0.2).destinations["one"]
        assert (of_one.dead_lettered, of_one.queued) == (0, 1), "alone, it may be the network"
        good += [call(tracer, number) for number in range(10)]
        report = pipeline.flush(PATIENCE_S)
    of_one = report.destinations["one"]
    assert (of_one.delivered, of_one.dead_lettered, of_one.queued) == (10, 1, 0), str(report)
    assert sorted(exporter.spans) == sorted(good)
    pipeline.shutdown()


def test_single_failing_span_waits_until_another_is_delivered(directory: Path | None) -> None:
    exporter, destination = picky(lambda span: ValueError() if is_odd(span) else None)
    pipeline = pipeline_with({"one": destination}, directory)
    with tracing(pipeline) as tracer:
        odd = call(tracer, note=CONTENT)
        of_one = pipeline.flush(0.2).destinations["one"]
        assert (of_one.delivered, of_one.dead_lettered, of_one.queued) == (0, 0, 1)
        good = call(tracer)
        of_one = pipeline.flush(PATIENCE_S).destinations["one"]
    assert (of_one.delivered, of_one.dead_lettered, of_one.queued) == (1, 1, 0)
    assert exporter.spans == [good]
    assert [(item.trace_id, item.span_id) for item in pipeline.spool.dead_letters()] == [odd]
    pipeline.shutdown()


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", ["store", "langfuse"])
def test_unreadable_record_is_dead_lettered(
    kind: str, position: int, directory: Path | None, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    store = tmp_path / "spans.db"
    given: dict[str, Any] = {
        # The times of the example are fixed; a store deletes older spans.
        "store": {"type": "store", "path": str(store), "spans": "all", "max_age": "36500d"},
        "langfuse": otlp(receiver.url, convention="langfuse"),
    }
    pipeline = pipeline_to({"one": given[kind]}, directory)
    example = replace(conversation()[0], parent_span_id="")
    numbers = range(1, 202)
    made = records([replace(example, trace_id=f"{number:032x}", span_id=f"{number:016x}") for number in numbers])
    made[position].body = b"\x0b" + made[position].body
    pipeline.spool.put(made, {})
    with tracing(pipeline):
        pipeline._start()
        odd = made[position]
        reason = "JSONDecodeError in encoding"
        assert_one_is_dead_lettered(pipeline, (odd.trace_id.hex(), odd.span_id.hex()), reason)
    good = {(one.trace_id.hex(), one.span_id.hex()) for one in made if one is not odd}
    if kind == "store":
        assert {one.trace_id for one in Store(store).traces(limit=300)} == {trace_id for trace_id, _ in good}
    else:
        assert set(receiver.spans) == good
    pipeline.shutdown()


ODD: dict[str, dict[str, Any]] = {
    "tokens as text": {semconv.USAGE_INPUT_TOKENS: "12", semconv.USAGE_TOTAL_TOKENS: "many"},
    "a list as session": {semconv.SESSION_ID: ["a", "b"], semconv.USER_ID: (1, 2)},
    "a sum beyond 64 bits": {semconv.USAGE_INPUT_TOKENS: 49 * 10**17, semconv.USAGE_OUTPUT_TOKENS: 49 * 10**17},
    "beyond 64 bits": {semconv.USAGE_INPUT_TOKENS: 2**70, semconv.USAGE_COST: 2**64},
    "no number": {semconv.USAGE_INPUT_TOKENS: math.nan, semconv.USAGE_COST: math.inf},
    "a wait as text": {semconv.RESPONSE_TIME_TO_FIRST_CHUNK: "0.5"},
    "an unhashable type": {semconv.INPUT_MESSAGES: '[{"role":"user","parts":[{"type":["text"]}]}]'},
}


@pytest.mark.parametrize("name", [*ODD, "an end in the year 2262"])
def test_attributes_of_any_type_are_delivered_with_the_rest(name: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    store = {"type": "store", "path": str(tmp_path / "spans.db"), "spans": "all"}
    file = {"type": "file", "path": str(tmp_path / "spans.jsonl"), "spans": "all"}
    destinations = {"store": store, "file": file, "console": {"type": "console", "spans": "all"}}
    destinations["langfuse"] = otlp(receiver.url, convention="langfuse")
    pipeline = pipeline_to(destinations, tmp_path)
    with tracing(pipeline) as tracer, pipeline.span_queue._processing:
        if name in ODD:
            around(tracer, 100, ODD[name])
        else:
            around(tracer, 0, {}, count=200)
            tracer.start_span("late").end(end_time=2**63)
    report = pipeline.flush(PATIENCE_S)
    assert report, str(report)
    assert {of_one.delivered for of_one in report.destinations.values()} == {201}
    assert len(set(receiver.spans)) == 201
    assert len(Store(tmp_path / "spans.db").traces(limit=300)) == 201
    pipeline.shutdown()
