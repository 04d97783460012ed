"""Metrics of spancast itself, with the names of the SDK's own metrics (semantic conventions, ``otel.sdk``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from spancast.diagnostics import Count, counters
from spancast.export.pipeline import ExportPipeline

_NOT_DELIVERED: Final = ("dead_lettered", "rejected", "sampled_out", "filtered", "non_genai")
_COMPONENT: Final[Mapping[str, str]] = {"otel.component.name": "spancast", "otel.component.type": "spancast"}


def observe(meter: Meter, current_pipeline: Callable[[], ExportPipeline | None]) -> None:
    """Create the instruments on ``meter``, once per meter; they read the pipeline that ``current_pipeline`` returns."""

    def queued(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(spans, labels) for labels, (spans, _) in _queues(current_pipeline())]

    def queued_bytes(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(size, labels) for labels, (_, size) in _queues(current_pipeline())]

    meter.create_observable_counter(
        "otel.sdk.processor.span.processed",
        [_processed],
        "{span}",
        "Spans received; with error.type, spans dropped before any destination.",
    )
    meter.create_observable_counter(
        "otel.sdk.exporter.span.exported",
        [lambda _: _exported(current_pipeline())],
        "{span}",
        "Spans that a destination accepted; with error.type, spans that it did not get.",
    )
    meter.create_observable_up_down_counter(
        "otel.sdk.exporter.span.inflight", [queued], "{span}", "Spans queued for a destination."
    )
    meter.create_observable_up_down_counter(
        "spancast.spool.queued", [queued_bytes], "By", "Bytes queued for a destination."
    )


def _labels(pipeline: ExportPipeline | None) -> dict[str, dict[str, str]]:
    routes = [worker.route for worker in pipeline.workers] if pipeline else []
    return {route.name: {"otel.component.name": route.name, "otel.component.type": route.kind} for route in routes}


def _queues(pipeline: ExportPipeline | None) -> list[tuple[dict[str, str], tuple[int, int]]]:
    queues = pipeline.queues() if pipeline else {}
    return [(labels, queues[name]) for name, labels in _labels(pipeline).items()]


def _exported(pipeline: ExportPipeline | None) -> Iterable[Observation]:
    if pipeline:
        pipeline.count_others()
    counts = counters.read()
    for name, labels in _labels(pipeline).items():
        # Each span once over all processes.
        yield Observation(counts[Count("delivered", name)] - counts[Count("delivered_by_others", name)], labels)
        for outcome in _NOT_DELIVERED:
            if count := counts[Count(outcome, name)]:
                yield Observation(count, {**labels, "error.type": outcome})
        yield from _dropped(counts, name, labels)


def _processed(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001 - the signature of callbacks
    counts = counters.read()
    yield Observation(counts[Count("received")], _COMPONENT)
    yield from _dropped(counts, "", _COMPONENT)


def _dropped(counts: Mapping[Count, int], destination: str, labels: Mapping[str, str]) -> Iterable[Observation]:
    for key, count in counts.items():
        if key.name == "dropped" and key.destination == destination:
            yield Observation(count, {**labels, "error.type": key.reason})
