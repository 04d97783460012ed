"""Tokens, cost and duration as text for people, alike in every list and tree."""

from __future__ import annotations

from typing import Final

from spancast.encoding import genai_fields
from spancast.encoding.span_data import SpanData
from spancast.model import semconv

_NS_PER_S: Final = 1_000_000_000
_MS_PER_S: Final = 1_000
_EXACT_BELOW: Final = 10_000
_K_BELOW: Final = 999_950
"""A larger count would be rounded to 1000.0k."""
_MICRO_USD: Final = 1e-6
_TWO_DECIMALS_BELOW_S: Final = 9.995
_SECONDS_BELOW_S: Final = 99.95
_MINUTES_BELOW_S: Final = 3600
_MINUTE_S: Final = 60


def tokens(sent: int | None, received: int | None) -> str:
    """Return input and output tokens as ``12.3k → 567``, empty if both are unknown."""
    return "" if sent is None and received is None else f"{_count(sent or 0)} → {_count(received or 0)}"


def _count(count: int) -> str:
    if count < _EXACT_BELOW:
        return f"{count:,}"
    return f"{count / 1000:.1f}k" if count < _K_BELOW else f"{count / 1_000_000:.1f}M"


def cost(usd: float | None, *, is_estimated: bool = False) -> str:
    """Return ``$0.001890`` or ``$12.34``, with ``~`` before an estimate; empty if the cost is unknown."""
    if usd is None:
        return ""
    mark = "~" if is_estimated else ""
    if 0 < usd < _MICRO_USD / 2:
        return f"{mark}<$0.000001"
    return f"{mark}${usd:,.2f}" if usd >= 1 else f"{mark}${usd:.6f}" if usd else f"{mark}$0"


def duration(span_ns: int) -> str:
    """Return ``312 ms``, ``3.07 s``, ``2m05s`` or ``1h02m``."""
    seconds = span_ns / _NS_PER_S
    if seconds < 1:
        return f"{seconds * _MS_PER_S:.0f} ms"
    if seconds < _SECONDS_BELOW_S:
        return f"{seconds:.2f} s" if seconds < _TWO_DECIMALS_BELOW_S else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    return f"{minutes}m{rest:02}s" if seconds < _MINUTES_BELOW_S else f"{minutes // 60}h{minutes % 60:02}m"


def span_tokens(span: SpanData) -> str:
    """Return ``tokens`` of ``span``."""
    return tokens(span.count(semconv.USAGE_INPUT_TOKENS), span.count(semconv.USAGE_OUTPUT_TOKENS))


def span_cost(span: SpanData) -> str:
    """Return ``cost`` of ``span``."""
    costs = genai_fields.costs(span)
    return cost(costs.total, is_estimated=costs.source is not None)


def span_duration(span: SpanData) -> str:
    """Return ``duration`` of ``span``, ``open`` if it has not ended."""
    return duration(span.end_ns - span.start_ns) if span.end_ns else "open"
