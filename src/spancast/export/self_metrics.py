"""Our health as OpenTelemetry metrics, by the names the SDK's own (semantic conventions, ``otel.sdk``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from spancast.diagnostics import counters
from spancast.export.pipeline import ExportPipeline

_NOT_SENT: Final = ("refused", "rejected", "sampled_out", "filtered", "not_llm")
_OURS: Final[Mapping[str, str]] = {"otel.component.name": "spancast", "otel.component.type": "spancast"}


def observe(meter: Meter, present: Callable[[], ExportPipeline | None]) -> None:
    """Make the instruments on ``meter``; they read whatever pipeline ``present`` returns. Once per meter."""

    def waiting(_: CallbackOptions) -> Iterable[Observation]:
        return _counts(present(), "waiting")

    def waiting_bytes(_: CallbackOptions) -> Iterable[Observation]:
        return _counts(present(), "waiting_bytes")

    meter.create_observable_counter(
        "otel.sdk.processor.span.processed", [_processed], "{span}", "Spans handed over; by error.type, those dropped."
    )
    meter.create_observable_counter(
        "otel.sdk.exporter.span.exported",
        [lambda _: _exported(present())],
        "{span}",
        "Spans a destination took, or, by error.type, did not get.",
    )
    meter.create_observable_up_down_counter(
        "otel.sdk.exporter.span.inflight", [waiting], "{span}", "Spans that wait for a destination."
    )
    meter.create_observable_up_down_counter(
        "spancast.spool.waiting", [waiting_bytes], "By", "Bytes that wait for a destination."
    )


def _routes(pipeline: ExportPipeline | None) -> Iterable[tuple[str, dict[str, str]]]:
    for worker in pipeline.workers if pipeline else ():
        route = worker.route
        yield route.name, {"otel.component.name": route.name, "otel.component.type": route.kind}


def _exported(pipeline: ExportPipeline | None) -> Iterable[Observation]:
    counts = counters.read()
    for name, labels in _routes(pipeline):
        yield Observation(counts.get(f"delivered.{name}", 0), labels)
        for outcome in _NOT_SENT:
            if count := counts.get(f"{outcome}.{name}"):
                yield Observation(count, {**labels, "error.type": outcome})
        for key, count in counts.items():
            if key.startswith(f"dropped.{name}."):
                yield Observation(count, {**labels, "error.type": key.rpartition(".")[2]})


def _counts(pipeline: ExportPipeline | None, what: str) -> Iterable[Observation]:
    counts = pipeline.counts() if pipeline else {}
    for name, labels in _routes(pipeline):
        yield Observation(counts[f"{what}.{name}"], labels)


def _processed(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001 - the signature of callbacks
    counts = counters.read()
    yield Observation(counts.get("received", 0), _OURS)
    for key, count in counts.items():
        kind, _, reason = key.partition(".")
        if kind == "dropped" and "." not in reason:
            yield Observation(count, {**_OURS, "error.type": reason})
