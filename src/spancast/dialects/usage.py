"""Token counts and cost from the usage object, by a table per dialect.

``TABLE`` maps a wire name to a canonical name, or to the table of a nested object::

    TABLE = {"input_tokens": semconv.USAGE_INPUT_TOKENS, "details": {"cached": semconv.USAGE_CACHE_READ}}
    usage, attributes = read_usage(response.get("usage"), TABLE)

Counts are neither summed nor estimated here; a dialect does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from spancast.dialects import accessors
from spancast.dialects.parameters import attribute_value, integer, number
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes

Table: TypeAlias = "Mapping[str, str | Mapping[str, str]]"

_DEPTH: Final = 4
_TICKS_PER_USD: Final = 10_000_000_000
_NO_ROWS: Final[Table] = {}
_INT64: Final = 2**63
_LEAVES: Final = (bool, int, float, str, list, tuple)


class Usage(NamedTuple):
    """Counts and cost (USD) by canonical name, and attributes that are not numbers (tier, flags)."""

    counts: dict[str, int | float]
    attributes: Attributes


def read_usage(usage: object, table: Table) -> Usage:
    """Return the counts in ``usage``; a path that is not in ``table`` is kept as ``spancast.usage.<path>``.

    ``cost`` (also if the server names its total otherwise) and everything in ``cost_details`` are USD and always float.
    """
    result = Usage({}, {})
    if not json_codec.is_absent(usage):
        _add_fields(accessors.fields(usage), "", table, result, _DEPTH)
        _add_total_cost(result.counts)
    return result


def _add_total_cost(counts: dict[str, int | float]) -> None:
    """Add the total cost of servers that have it in another place than ``cost``."""
    total, ticks = counts.get(semconv.USAGE_COST + ".total_cost"), counts.get(semconv.USAGE + "cost_in_usd_ticks")
    if semconv.USAGE_COST in counts:
        return
    if total is not None:
        # Perplexity.
        counts[semconv.USAGE_COST] = float(total)
    elif ticks is not None:
        # xAI.
        counts[semconv.USAGE_COST] = ticks / _TICKS_PER_USD


def _add_fields(fields: Mapping[str, Any], prefix: str, table: Table, usage: Usage, depth: int) -> None:
    counts = usage.counts
    for key, value in fields.items():
        if value is None:
            continue
        row = table.get(key)
        name = row if type(row) is str else None
        if type(value) is int and name is not None and 0 <= value < _INT64:
            # The most common case. Some servers send a count under several names, unused ones as zero.
            counts[name] = max(value, counts.get(name, 0))
        elif depth == 1 or _is_leaf(value):
            if not json_codec.is_absent(value):
                _add(f"{prefix}{key}", value, name, usage)
        else:
            nested = row if row is not None and not isinstance(row, str) else _NO_ROWS
            _add_fields(accessors.fields(value), f"{prefix}{key}.", nested, usage, depth - 1)


def _is_leaf(value: object) -> bool:
    return isinstance(value, _LEAVES)


def _add(path: str, value: object, name: str | None, usage: Usage) -> None:
    is_cost = path == "cost" or path.startswith("cost_details.")
    count = number(value) if is_cost else integer(value) if name is not None or type(value) is int else number(value)
    if count is not None:
        usage.counts[name or f"{semconv.USAGE}{path}"] = count
    elif name is None:
        usage.attributes[f"{semconv.USAGE}{path}"] = attribute_value(value)
