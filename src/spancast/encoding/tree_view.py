"""A span tree as text for a terminal, with names, durations, tokens and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from spancast.encoding import genai_fields
from spancast.encoding.span_data import SpanData
from spancast.model import semconv

_MS_PER_S: Final = 1_000
_ALIGNED_LEFT: Final = (0, 4)
_GAP: Final = "  "
_MIN_NAME_WIDTH: Final = 16
_CONTROL: Final = dict.fromkeys((*range(32), 127, *range(128, 160)), "�")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the LLM calls among some spans."""

    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    is_estimated: bool
    """Whether a part of ``cost`` is estimated."""


def totals(spans: Iterable[SpanData]) -> Totals:
    """Return the sums over the LLM calls among ``spans``."""
    calls = [span for span in spans if span.is_generation]
    costs = [cost for span in calls if (cost := genai_fields.costs(span)).total is not None]
    return Totals(
        len(calls),
        sum(span.count(semconv.USAGE_INPUT_TOKENS) or 0 for span in calls),
        sum(span.count(semconv.USAGE_OUTPUT_TOKENS) or 0 for span in calls),
        sum(cost.total or 0.0 for cost in costs) if costs else None,
        is_estimated=any(cost.source for cost in costs),
    )


def usd(cost: float, *, is_estimated: bool) -> str:
    """Return ``cost`` as text, an estimate with a tilde."""
    return f"{'~' if is_estimated else ''}${cost:.6f}"


def printable(text: str) -> str:
    """Return ``text`` with control characters replaced."""
    return text.translate(_CONTROL)


def render_tree(spans: Iterable[SpanData], width: int | None = None) -> str:
    """Return ``spans`` as indented trees with one line per span, siblings ordered by start time.

    A span without its parent in ``spans`` is a root. If a line is longer than ``width``, its name is truncated
    and its note moves to a line of its own.
    """
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.end_ns))
    known = {span.span_id for span in ordered}
    children: dict[str, list[SpanData]] = {}
    for span in ordered:
        parent = span.parent_span_id
        children.setdefault(parent if parent in known and parent != span.span_id else "", []).append(span)
    rows: list[tuple[str, ...]] = []
    for root in children.get("", []):
        _add(root, "", "", children, rows)
    return _aligned(rows) if width is None else _fitted(rows, width)


def _add(
    span: SpanData, first: str, rest: str, children: Mapping[str, Sequence[SpanData]], rows: list[tuple[str, ...]]
) -> None:
    rows.append((first + printable(span.name), _duration(span), _tokens(span), _cost(span), _note(span)))
    child_spans = children.get(span.span_id, ())
    for position, child in enumerate(child_spans):
        is_last = position == len(child_spans) - 1
        _add(child, rest + ("└─ " if is_last else "├─ "), rest + ("   " if is_last else "│  "), children, rows)


def _fitted(rows: Sequence[tuple[str, ...]], width: int) -> str:
    numbers = [max((len(row[column]) for row in rows), default=0) for column in range(1, 4)]
    name_width = max(width - sum(number + len(_GAP) for number in numbers), _MIN_NAME_WIDTH)
    lines = _aligned([(_truncated(row[0], name_width), *row[1:4]) for row in rows]).split("\n")
    return "\n".join(
        line
        if not row[4]
        else f"{line}{_GAP}{row[4]}"
        if len(line + _GAP + row[4]) <= width
        else f"{line}\n{_note_line(row)}"
        for line, row in zip(lines, rows, strict=False)
    )


def _truncated(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _note_line(row: Sequence[str]) -> str:
    """Return a line with the note of ``row``, indented below its name."""
    branch = row[0][: len(row[0]) - len(row[0].lstrip("│├└─ "))]
    return branch.replace("├─", "│ ").replace("└─", "  ") + _GAP + row[4]


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return "\n".join(
        _GAP.join(
            cell.ljust(width) if column in _ALIGNED_LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _duration(span: SpanData) -> str:
    if not span.end_ns:
        return "open"
    ms = span.duration_ms
    return f"{ms:.0f} ms" if ms < _MS_PER_S else f"{ms / _MS_PER_S:.2f} s"


def _tokens(span: SpanData) -> str:
    sent, received = span.count(semconv.USAGE_INPUT_TOKENS), span.count(semconv.USAGE_OUTPUT_TOKENS)
    return "" if sent is None and received is None else f"{sent or 0} → {received or 0} tokens"


def _cost(span: SpanData) -> str:
    cost = genai_fields.costs(span)
    return "" if cost.total is None else usd(cost.total, is_estimated=cost.source is not None)


def _note(span: SpanData) -> str:
    notes: list[str] = []
    model = span.text(semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL)
    if model and model not in span.name:
        notes.append(model)
    first_chunk = span.number(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
    if first_chunk is not None:
        notes.append(f"streamed, first chunk after {first_chunk * _MS_PER_S:.0f} ms")
    if span.status == "error":
        notes.append(f"✗ {span.text(semconv.ERROR_TYPE) or 'error'}")
    return printable(", ".join(notes))
