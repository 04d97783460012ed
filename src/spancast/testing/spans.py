"""Spans kept in memory, for assertions on whole trees."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spancast import runtime
from spancast.diagnostics import counters, reraise_internal_errors, reset_warnings
from spancast.model import json_codec
from spancast.tracing.call_tracer import CALL_TRACER


class CapturedSpans:
    """The spans that ended since ``captured_spans()`` was entered, in the order they ended."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def all(self) -> list[ReadableSpan]:
        """End idle groups and return every ended span."""
        CALL_TRACER.tree.end_idle()
        return list(self._exporter.get_finished_spans())

    def one(self) -> ReadableSpan:
        """Return the only span.

        Raises:
            AssertionError: There is none, or more than one; the message lists their names.
        """
        spans = self.all()
        if len(spans) != 1:
            message = f"expected one span, got {[span.name for span in spans]}"
            raise AssertionError(message)
        return spans[0]

    def calls(self) -> list[ReadableSpan]:
        """Return the generations only: spans with ``gen_ai.operation.name``."""
        return [span for span in self.all() if "gen_ai.operation.name" in (span.attributes or {})]

    def names(self) -> list[str]:
        """Return the names of all spans in order of their start."""
        return [span.name for span in sorted(self.all(), key=lambda span: span.start_time or 0)]

    def tree(self) -> dict[str, Any]:
        """Return names nested as the spans are: ``{"Support": {"triage": {"classify": {}}}}``."""
        spans = sorted(self.all(), key=lambda span: span.start_time or 0)
        nodes: dict[int, dict[str, Any]] = {}
        root: dict[str, Any] = {}
        for span in spans:
            context = span.get_span_context()
            nodes[context.span_id if context else 0] = {}
        for span in spans:
            context = span.get_span_context()
            above = nodes.get(span.parent.span_id, root) if span.parent else root
            name = span.name
            while name in above:
                name += "'"
            above[name] = nodes[context.span_id if context else 0]
        return root

    def clear(self) -> None:
        """Forget the spans seen so far."""
        self._exporter.clear()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes of ``span``, JSON texts of messages and tools decoded."""
    return decoded(span.attributes or {})


def decoded(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of ``attributes``, JSON texts of messages and tools decoded."""
    found = dict(attributes)
    for name, value in found.items():
        if isinstance(value, tuple):
            found[name] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, str) and value[:1] in "[{" and value[:1]:
            parsed = json_codec.decode(value)
            found[name] = value if parsed is None else parsed
    return found


@contextmanager
def captured_spans(**settings: Any) -> Generator[CapturedSpans]:  # noqa: ANN401 - the fields of Settings
    """Capture spans in a provider of their own; ``settings`` as for ``spancast.configure()``.

    Internal errors of spancast are raised inside, not swallowed.
    """
    provider = settings.pop("tracer_provider", None) or TracerProvider(shutdown_on_exit=False)
    captured = CapturedSpans(provider)
    counters.clear()
    reset_warnings()
    former = reraise_internal_errors(enabled=True)
    runtime.configure(tracer_provider=provider, **settings)
    try:
        yield captured
    finally:
        reraise_internal_errors(enabled=former)
        runtime.shutdown()
        provider.shutdown()
