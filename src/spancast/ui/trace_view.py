"""The page of a trace: the rows of its tree with their bars, and what is known of one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from spancast.encoding import amounts
from spancast.encoding.genai_fields import (
    costs,
    finish_reason,
    first_chunk_ns,
    model_parameters,
    own_keys,
    raw_trace_id,
    tools,
    total_tokens,
)
from spancast.encoding.redaction import MASKING_FAILED
from spancast.encoding.span_data import SpanData
from spancast.encoding.tree_view import Totals, branches, totals
from spancast.encoding.truncation import TRUNCATED
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list
from spancast.model.truncation import MARK

_INDENT: Final = 3
_HTTPS: Final = 443
_NS_PER_S: Final = 1_000_000_000
_DEEPEST: Final = 12
_LEAST_WIDTH: Final = 0.6
_COST: Final = semconv.COST_SOURCE.removesuffix("source")
_USAGE: Final[Mapping[str, str]] = {
    semconv.USAGE_INPUT_TOKENS.removesuffix("input_tokens"): "", semconv.USAGE: "", _COST: "cost."
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the tree; ``left``, ``width`` and ``wait`` (until the first chunk) are percents of the trace's time."""

    span: SpanData
    depth: int
    left: float
    width: float
    wait: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceView:
    """A whole trace; ``spans`` are in the order of their start."""

    spans: Sequence[SpanData]
    rows: Sequence[Row]
    sums: Totals
    name: str
    raw_id: str
    session: str
    user: str
    services: Sequence[str]
    keys: Mapping[str, Any]
    errors: int
    """The number of calls that failed, else of other spans: the error of a call passes through those around it."""
    cached: int
    """The part of the input tokens that was read from the provider's cache."""
    estimated: float
    """The part of the cost that is estimated."""

    @property
    def trace_id(self) -> str:
        """Return the hex id."""
        return self.spans[0].trace_id

    @property
    def start_ns(self) -> int:
        """Return the start of the first span."""
        return min(span.start_ns for span in self.spans)

    @property
    def duration_ns(self) -> int:
        """Return the time from the first start to the last end."""
        return max(max(span.end_ns for span in self.spans) - self.start_ns, 0)

    def find(self, span_id: str | None) -> SpanData:
        """Return the span of ``span_id``, else the first call, else the first span."""
        known = {row.span.span_id: row.span for row in self.rows}
        first = next((row.span for row in self.rows if row.span.is_generation), self.rows[0].span)
        return known.get(span_id or "", first)


def trace_view(spans: Sequence[SpanData]) -> TraceView:
    """Return the view of ``spans``, which are of one trace and at least one."""
    first_ns = min(span.start_ns for span in spans)
    whole_ns = max(max(span.end_ns for span in spans) - first_ns, 1)
    rows = [_row(branch.span, len(branch.first) // _INDENT, first_ns, whole_ns) for branch in branches(spans)]
    keys: dict[str, Any] = {}
    for span in spans:
        keys |= own_keys(span)
    failed_calls = [span for span in spans if span.is_generation and span.status == "error"]
    estimates = [one.total or 0.0 for span in spans if span.is_generation and (one := costs(span)).source]
    return TraceView(
        spans=spans,
        rows=rows,
        sums=totals(spans),
        name=_first_text(spans, semconv.TRACE_NAME) or rows[0].span.name,
        raw_id=next((raw for span in spans if (raw := raw_trace_id(span)) != span.trace_id), ""),
        session=_first_text(spans, semconv.SESSION_ID),
        user=_first_text(spans, semconv.USER_ID),
        services=list(dict.fromkeys(str(one) for s in spans if (one := s.resource.attributes.get("service.name")))),
        keys=keys,
        errors=len(failed_calls) or sum(span.status == "error" for span in spans),
        cached=sum(span.count(semconv.USAGE_CACHE_READ) or 0 for span in spans if span.is_generation),
        estimated=sum(estimates),
    )


def _first_text(spans: Sequence[SpanData], name: str) -> str:
    return next((text for span in spans if (text := span.text(name))), "")


def _row(span: SpanData, depth: int, first_ns: int, whole_ns: int) -> Row:
    def percent(at_ns: int) -> float:
        return round(min(max((at_ns - first_ns) * 100 / whole_ns, 0), 100), 2)

    left, right = percent(span.start_ns), percent(max(span.end_ns, span.start_ns)) if span.end_ns else 100.0
    width = max(right - left, _LEAST_WIDTH)
    chunk_ns = first_chunk_ns(span)
    return Row(
        span=span,
        depth=min(depth, _DEEPEST),
        left=min(left, 100 - _LEAST_WIDTH),
        width=round(width, 2),
        wait=0.0 if chunk_ns is None else round(min(max(percent(chunk_ns) - left, 0), width), 2),
        label=amounts.span_duration(span),
    )


# --- one call -------------------------------------------------------------------------------------


def model_of(span: SpanData) -> str:
    """Return the model that answered, else the one that was asked."""
    return span.text(semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL) or ""


def facts(span: SpanData) -> Iterator[tuple[str, str]]:
    """Yield what is known of a call beside its messages, each with its label."""
    yield from _server_facts(span)
    sent, received = span.count(semconv.USAGE_INPUT_TOKENS), span.count(semconv.USAGE_OUTPUT_TOKENS)
    if sent is not None:
        cached, written = span.count(semconv.USAGE_CACHE_READ), span.count(semconv.USAGE_CACHE_WRITE)
        yield "in", _with_parts(sent, cached=cached, written=written)
    if received is not None:
        yield "out", _with_parts(received, reasoning=span.count(semconv.USAGE_REASONING))
    cost = costs(span)
    if cost.total is not None:
        origin = f"estimated: {cost.source}" if cost.source else "as charged"
        yield "cost", f"{amounts.span_cost(span)} {origin}"
    yield from _stream_facts(span, received)
    if reason := finish_reason(span):
        yield "finish", reason
    if status := span.text(semconv.RESPONSE + "status_code"):
        yield "HTTP", status
    if again := span.count(semconv.RESEND_COUNT):
        yield "sent again", "once" if again == 1 else f"{again} times"


def _server_facts(span: SpanData) -> Iterator[tuple[str, str]]:
    asked, answered = span.text(semconv.REQUEST_MODEL), span.text(semconv.RESPONSE_MODEL)
    if asked and answered and asked != answered:
        yield "asked for", asked
    provider = span.text(semconv.PROVIDER_NAME)
    if provider and provider != semconv.OTHER:
        yield "provider", provider
    if address := span.text(semconv.SERVER_ADDRESS):
        port = span.count(semconv.SERVER_PORT)
        yield "at", address if port in (None, _HTTPS) else f"{address}:{port}"
    if upstream := span.text(semconv.RESPONSE_PROVIDER):
        yield "served by", upstream


def _stream_facts(span: SpanData, received: int | None) -> Iterator[tuple[str, str]]:
    chunk_ns = first_chunk_ns(span)
    if chunk_ns is None:
        if span.first(semconv.REQUEST_STREAM) is True:
            yield "stream", "no chunk"
        return
    yield "stream", f"first chunk after {amounts.duration(chunk_ns - span.start_ns)}"
    rest_ns = span.end_ns - chunk_ns
    if received and rest_ns > 0:
        yield "speed", f"{received * _NS_PER_S / rest_ns:.0f} tokens/s after it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """The chunks of a stream on its line of time: ``at`` are per cent.

    ``pause`` is the longest wait for the next chunk, ``late`` the number of that chunk, from 1.
    """

    at: Sequence[float]
    pause: str
    late: int


def chunks_of(span: SpanData) -> Chunks | None:
    """Return the chunks of a stream; None if their times were not recorded (they are with ``chunk_metrics``)."""
    given = span.first(semconv.RESPONSE_CHUNK_TIMES)
    times = [float(one) for one in given if isinstance(one, int | float)] if is_list(given) else []
    lasts_s = (span.end_ns - span.start_ns) / _NS_PER_S
    if len(times) < 2 or lasts_s <= 0 or times != sorted(times):  # noqa: PLR2004 - a gap needs two
        return None
    pauses = [later - earlier for earlier, later in pairwise(times)]
    late = max(range(len(pauses)), key=pauses.__getitem__)
    return Chunks(
        at=[round(min(max(one * 100 / lasts_s, 0.0), 100.0), 2) for one in times],
        pause=amounts.duration(int(pauses[late] * _NS_PER_S)),
        late=late + 2,
    )


def _with_parts(count: int, **parts: int | None) -> str:
    known = [f"{value:,} {name}" for name, value in parts.items() if value]
    unit = "token" if count == 1 else "tokens"
    return f"{count:,} {unit} ({', '.join(known)})" if known else f"{count:,} {unit}"


def problems(span: SpanData) -> Iterator[str]:
    """Yield the problems of the record of ``span``: wrong keys, truncated or removed values, an incomplete stream."""
    given = span.first(semconv.PROBLEMS)
    yield from (str(one) for one in given) if is_list(given) else ([str(given)] if given else [])
    if incomplete := span.text(semconv.RESPONSE_INCOMPLETE):
        yield f"the stream did not end: {incomplete}"
    removed = span.first(semconv.REDACTED)
    if is_list(removed) and removed:
        yield f"left out, may be content: {', '.join(map(str, removed))}"
    masked = [name for name, value in span.attributes.items() if isinstance(value, str) and MASKING_FAILED in value]
    if masked:
        yield f"mask failed, value left out: {', '.join(masked)}"
    cut = [
        name.removesuffix(TRUNCATED)
        for name, value in span.attributes.items()
        if (name.endswith(TRUNCATED) and value is True) or (isinstance(value, str) and MARK in value)
    ]
    if cut:
        yield f"truncated: {', '.join(dict.fromkeys(cut))}"
    if semconv.OVERFLOW in span.attributes:
        yield f"more attributes than the span may have: the rest is in {semconv.OVERFLOW}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The error of a span."""

    kind: str
    message: str
    body: Any
    stacktrace: str


def failure(span: SpanData) -> Failure | None:
    """Return the error of ``span``: its type, its message and what the provider sent; None if it did not fail."""
    if span.status != "error":
        return None
    nothing: Mapping[str, Any] = {}
    raised = next((event.attributes for event in span.events if event.name == "exception"), nothing)
    body = span.text(semconv.RESPONSE + "error")
    return Failure(
        kind=span.text(semconv.ERROR_TYPE) or str(raised.get(semconv.EXCEPTION_TYPE, "")) or "error",
        message=str(raised.get(semconv.EXCEPTION_MESSAGE) or span.status_message),
        body=(json_codec.decode(body) or body) if body else None,
        stacktrace=str(raised.get(semconv.EXCEPTION_STACKTRACE) or ""),
    )


def usage(span: SpanData) -> dict[str, Any]:
    """Return every count and cost of ``span`` by its short name."""
    found = {
        label + name.removeprefix(prefix): float(f"{value:.12g}") if isinstance(value, float) else value
        for name, value in span.attributes.items()
        for prefix, label in _USAGE.items()
        if name.startswith(prefix)
    }
    if found and "total_tokens" not in found:
        found["total_tokens"] = total_tokens(span)
    return found


def request_of(span: SpanData) -> dict[str, Any]:
    """Return the parameters of the request, and the tools that it offers."""
    return {**model_parameters(span), **({"tools": offered} if (offered := tools(span)) else {})}
