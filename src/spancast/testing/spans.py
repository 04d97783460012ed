"""Captured spans in memory, for assertions."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spancast import runtime
from spancast.diagnostics import counters, reraise_internal_errors, reset_warnings
from spancast.encoding.span_data import read_record
from spancast.encoding.tree_view import render_tree
from spancast.export.record_builder import ContextCache, record_of
from spancast.model import json_codec
from spancast.tracing.call_tracer import CALL_TRACER


class CapturedSpans:
    """The spans that ended since the start of ``captured_spans()``, in order of their end."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def all(self) -> list[ReadableSpan]:
        """End idle group spans and return every ended span."""
        CALL_TRACER.group_spans.end_idle()
        return list(self._exporter.get_finished_spans())

    def one(self) -> ReadableSpan:
        """Return the only span.

        Raises:
            AssertionError: There is no span or more than one; the message lists their names.
        """
        spans = self.all()
        if len(spans) != 1:
            message = f"expected one span, got {[span.name for span in spans]}"
            raise AssertionError(message)
        return spans[0]

    def calls(self) -> list[ReadableSpan]:
        """Return the spans with ``gen_ai.operation.name`` that are no group spans."""
        operations = [(span, (span.attributes or {}).get("gen_ai.operation.name")) for span in self.all()]
        return [span for span, operation in operations if operation not in (None, "invoke_workflow")]

    def names(self) -> list[str]:
        """Return the names of all spans, ordered by start time."""
        return [span.name for span in sorted(self.all(), key=lambda span: span.start_time or 0)]

    def tree(self) -> dict[str, Any]:
        """Return the span tree as nested names: ``{"Support": {"triage": {"classify": {}}}}``."""
        spans = sorted(self.all(), key=lambda span: span.start_time or 0)
        nodes: dict[int, dict[str, Any]] = {}
        root: dict[str, Any] = {}
        for span in spans:
            context = span.get_span_context()
            nodes[context.span_id if context else 0] = {}
        for span in spans:
            context = span.get_span_context()
            parent = nodes.get(span.parent.span_id, root) if span.parent else root
            name = span.name
            while name in parent:
                name += "'"
            parent[name] = nodes[context.span_id if context else 0]
        return root

    def clear(self) -> None:
        """Remove the captured spans."""
        self._exporter.clear()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes of ``span``, with JSON text decoded."""
    return decoded(span.attributes or {})


def decoded(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of ``attributes``, with JSON text decoded."""
    found = dict(attributes)
    for name, value in found.items():
        if isinstance(value, tuple):
            found[name] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, str) and value[:1] in "[{" and value[:1]:
            parsed = json_codec.decode(value)
            found[name] = value if parsed is None else parsed
    return found


def tree_text(spans: Iterable[ReadableSpan]) -> str:
    """Return ``spans`` as an indented tree with one line per span, as the console destination prints it."""
    contexts = ContextCache()
    return render_tree(read_record(record_of(span, span.attributes or {}, span.status, contexts)) for span in spans)


@contextmanager
def captured_spans(**settings: Any) -> Generator[CapturedSpans]:  # noqa: ANN401 - the fields of Settings
    """Capture the spans of a separate provider; ``settings`` are the arguments of ``spancast.configure()``.

    No file is read that ``settings`` do not name.
    Internal errors of spancast are raised inside the block.
    """
    provider = settings.pop("tracer_provider", None) or TracerProvider(shutdown_on_exit=False)
    captured = CapturedSpans(provider)
    counters.clear()
    reset_warnings()
    previous = reraise_internal_errors(enabled=True)
    runtime.configure(settings.pop("path", os.devnull), tracer_provider=provider, **settings)
    try:
        yield captured
    finally:
        reraise_internal_errors(enabled=previous)
        runtime.shutdown()
        provider.shutdown()
