"""A span tree as text, with names, durations, tokens and cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from spancast.encoding import genai_fields
from spancast.encoding.amounts import span_cost, span_duration, span_tokens
from spancast.encoding.open_groups import open_groups
from spancast.encoding.span_data import SpanData
from spancast.model import semconv

_MS_PER_S: Final = 1_000
_ALIGNED_LEFT: Final = (0, 4)
_GAP: Final = "  "
_DIRECTIONS: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROL: Final = dict.fromkeys((*range(32), *range(127, 160), 0x2028, 0x2029, *_DIRECTIONS), "�")
"""Control characters, line separators, and marks that reverse the direction of the text after them."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the LLM calls among some spans; ``is_estimated``: a part of the cost was computed from prices."""

    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    is_estimated: bool


class Branch(NamedTuple):
    """A span of a tree: ``first`` is drawn before its name, ``rest`` before further lines about it."""

    first: str
    rest: str
    span: SpanData


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


def printable(text: str) -> str:
    """Return ``text`` with control characters replaced."""
    return text.translate(_CONTROL)


def branches(spans: Iterable[SpanData]) -> Iterator[Branch]:
    """Yield ``spans`` in the order of their trees, siblings by start time.

    A span without its parent in ``spans`` is below an open group (``open_groups``), else a root.
    """
    ended = list(spans)
    groups = open_groups(ended)
    drawn = {span.span_id: span for span in (*groups.values(), *ended)}
    ordered = sorted(drawn.values(), key=lambda span: (span.start_ns, span.end_ns))
    children: dict[str, list[SpanData]] = {}
    for span in ordered:
        parent = groups.get(span.parent_span_id) or drawn.get(span.parent_span_id)
        children.setdefault("" if parent is None or parent is span else parent.span_id, []).append(span)
    # A stack, because a trace may be nested deeper than Python calls. Spans in a circle of parents follow as roots.
    stack = [Branch("", "", span) for span in (*reversed(ordered), *reversed(children.get("", ())))]
    shown: set[str] = set()
    while stack:
        first, rest, span = stack.pop()
        if span.span_id in shown:
            continue
        shown.add(span.span_id)
        below = [child for child in children.get(span.span_id, ()) if child.span_id not in shown]
        yield Branch(first, rest + ("│  " if below else "   "), span)
        for child in reversed(below):
            is_last = child is below[-1]
            stack.append(Branch(rest + ("└─ " if is_last else "├─ "), rest + ("   " if is_last else "│  "), child))


def render_tree(spans: Iterable[SpanData]) -> str:
    """Return ``spans`` as indented trees with one line per span."""
    rows = [
        (
            first + printable(span.name),
            span_duration(span),
            f"{tokens} tokens" if (tokens := span_tokens(span)) else "",
            span_cost(span),
            _note(span),
        )
        for first, _, span in branches(spans)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return "\n".join(
        _GAP.join(
            cell.ljust(width) if column in _ALIGNED_LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


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
