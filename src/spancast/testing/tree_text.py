"""A span tree as text for a terminal, with names, durations, tokens and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from spancast.model import semconv
from spancast.model.attribute_values import count_of, number_of

_NS_PER_MS: Final = 1_000_000
_MS_PER_S: Final = 1_000


def tree_text(spans: Iterable[ReadableSpan]) -> str:
    """Return ``spans`` as an indented tree with one line per span, roots ordered by start time."""
    ordered = sorted(spans, key=lambda span: span.start_time or 0)
    ids = {span.get_span_context().span_id for span in ordered if span.get_span_context()}  # pyright: ignore[reportOptionalMemberAccess]
    children: dict[int, list[ReadableSpan]] = {}
    for span in ordered:
        parent = span.parent.span_id if span.parent and span.parent.span_id in ids else 0
        children.setdefault(parent, []).append(span)
    rows: list[tuple[str, ...]] = []
    for root in children.get(0, []):
        _add(root, "", "", children, rows)
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, 4) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _add(
    span: ReadableSpan, first: str, rest: str, children: Mapping[int, list[ReadableSpan]], rows: list[tuple[str, ...]]
) -> None:
    context = span.get_span_context()
    child_spans = children.get(context.span_id, []) if context else []
    attributes: Mapping[str, Any] = span.attributes or {}
    rows.append((first + span.name, _duration(span), _tokens(attributes), _cost(attributes), _note(span, attributes)))
    for position, child in enumerate(child_spans):
        is_last = position == len(child_spans) - 1
        _add(child, rest + ("└─ " if is_last else "├─ "), rest + ("   " if is_last else "│  "), children, rows)


def _duration(span: ReadableSpan) -> str:
    if span.start_time is None or span.end_time is None:
        return "open"
    ms = (span.end_time - span.start_time) / _NS_PER_MS
    return f"{ms:.0f} ms" if ms < _MS_PER_S else f"{ms / _MS_PER_S:.2f} s"


def _tokens(attributes: Mapping[str, Any]) -> str:
    input_tokens = count_of(attributes.get(semconv.USAGE_INPUT_TOKENS))
    output_tokens = count_of(attributes.get(semconv.USAGE_OUTPUT_TOKENS))
    return (
        "" if input_tokens is None and output_tokens is None else f"{input_tokens or 0} → {output_tokens or 0} tokens"
    )


def _cost(attributes: Mapping[str, Any]) -> str:
    cost = number_of(attributes.get(semconv.USAGE_COST))
    return "" if cost is None else f"${cost:.6f}"


def _note(span: ReadableSpan, attributes: Mapping[str, Any]) -> str:
    notes: list[str] = []
    model = attributes.get(semconv.RESPONSE_MODEL) or attributes.get(semconv.REQUEST_MODEL)
    if model and str(model) not in span.name:
        notes.append(str(model))
    first = number_of(attributes.get(semconv.RESPONSE_TIME_TO_FIRST_CHUNK))
    if first is not None:
        notes.append(f"streamed, first chunk after {first * _MS_PER_S:.0f} ms")
    error = attributes.get(semconv.ERROR_TYPE)
    if error:
        notes.append(f"✗ {error}")
    return ", ".join(notes)
