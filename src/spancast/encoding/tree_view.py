"""Render spans as a tree for a terminal: names, durations, tokens, cost. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from spancast.encoding.span_data import SpanData
from spancast.model import semconv

_MS_PER_S: Final = 1_000
_ALIGNED_LEFT: Final = (0, 4)
_GAP: Final = "  "
_SHORTEST_NAME: Final = 16
_CONTROL: Final = dict.fromkeys((*range(32), 127, *range(128, 160)), "�")


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums over generations."""

    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None


def totals(spans: Iterable[SpanData]) -> Totals:
    """Return the sums over the generations among ``spans``."""
    calls = [span for span in spans if span.is_generation]
    costs = [cost for span in calls if (cost := span.number(semconv.USAGE_COST)) is not None]
    return Totals(
        len(calls),
        sum(span.count(semconv.USAGE_INPUT_TOKENS) or 0 for span in calls),
        sum(span.count(semconv.USAGE_OUTPUT_TOKENS) or 0 for span in calls),
        sum(costs) if costs else None,
    )


def printable(text: str) -> str:
    """Return ``text`` with control characters replaced, so that a terminal does not interpret them."""
    return text.translate(_CONTROL)


def render_tree(spans: Iterable[SpanData], width: int | None = None) -> str:
    """Return ``spans`` as indented trees, a line each, siblings in order of their start.

    A span whose parent is not in ``spans`` is a root. If a line is wider than ``width``, names are cut and notes are on
    a line of their own.
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
    name = printable(span.name)
    rows.append((first + name, _duration(span.duration_ms), _tokens(span), _cost(span), _note(span)))
    below = children.get(span.span_id, ())
    for position, child in enumerate(below):
        is_last = position == len(below) - 1
        _add(child, rest + ("└─ " if is_last else "├─ "), rest + ("   " if is_last else "│  "), children, rows)


def _fitted(rows: Sequence[tuple[str, ...]], width: int) -> str:
    numbers = [max((len(row[column]) for row in rows), default=0) for column in range(1, 4)]
    room = max(width - sum(number + len(_GAP) for number in numbers), _SHORTEST_NAME)
    lines = _aligned([(_cut(row[0], room), *row[1:4]) for row in rows]).split("\n")
    return "\n".join(
        line
        if not row[4]
        else f"{line}{_GAP}{row[4]}"
        if len(line + _GAP + row[4]) <= width
        else f"{line}\n{_below(row)}"
        for line, row in zip(lines, rows, strict=False)
    )


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def _below(row: Sequence[str]) -> str:
    """Return the note of ``row`` under its name."""
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


def _duration(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < _MS_PER_S else f"{ms / _MS_PER_S:.2f} s"


def _tokens(span: SpanData) -> str:
    inputs, outputs = span.count(semconv.USAGE_INPUT_TOKENS), span.count(semconv.USAGE_OUTPUT_TOKENS)
    return "" if inputs is None and outputs is None else f"{inputs or 0} → {outputs or 0} tokens"


def _cost(span: SpanData) -> str:
    cost = span.number(semconv.USAGE_COST)
    return "" if cost is None else f"${cost:.6f}"


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
