"""Token counts and cost by a table of each dialect; one walk over the usage object.

``TABLE`` maps a wire name to a canonical name, or to the table of what lies beneath it::

    TABLE = {"input_tokens": semconv.USAGE_INPUT_TOKENS, "details": {"cached": semconv.USAGE_CACHE_READ}}
    usage, attributes = read_usage(answer.get("usage"), TABLE)

Must never: add counts up or guess one: what is summed, the dialect sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from spancast.dialects import accessors
from spancast.dialects.parameters import attribute_value, decimal, whole
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes

Table: TypeAlias = "Mapping[str, str | Mapping[str, str]]"

_DEPTH: Final = 4
_NO_ROWS: Final[Table] = {}
_INT64: Final = 2**63
_LEAVES: Final = (bool, int, float, str, list, tuple)


class Usage(NamedTuple):
    """Counts and cost (USD) by canonical name; beside them what is no number (tier, flags)."""

    counts: dict[str, int | float]
    attributes: Attributes


def read_usage(usage: object, table: Table) -> Usage:
    """Return what ``usage`` tells; a path not in ``table`` is kept as ``spancast.usage.<path>``.

    ``cost`` and everything in ``cost_details`` are USD and always float.
    """
    found = Usage({}, {})
    if not json_codec.is_absent(usage):
        _resolve_path(accessors.fields(usage), "", table, found, _DEPTH)
    return found


def _resolve_path(counted: Mapping[str, Any], prefix: str, table: Table, found: Usage, depth: int) -> None:
    counts = found.counts
    for key, value in counted.items():
        if value is None:
            continue
        row = table.get(key)
        name = row if type(row) is str else None
        if type(value) is int and name is not None and 0 <= value < _INT64:
            # What nearly all of them are.
            counts[name] = value
        elif depth == 1 or _is_leaf(value):
            if not json_codec.is_absent(value):
                _keep(f"{prefix}{key}", value, name, found)
        else:
            beneath = row if row is not None and not isinstance(row, str) else _NO_ROWS
            _resolve_path(accessors.fields(value), f"{prefix}{key}.", beneath, found, depth - 1)


def _is_leaf(value: object) -> bool:
    return isinstance(value, _LEAVES)


def _keep(path: str, value: object, name: str | None, found: Usage) -> None:
    is_cost = path == "cost" or path.startswith("cost_details.")
    number = decimal(value) if is_cost else whole(value) if name is not None or type(value) is int else decimal(value)
    if number is not None:
        found.counts[name or f"{semconv.USAGE}{path}"] = number
    elif name is None:
        found.attributes[f"{semconv.USAGE}{path}"] = attribute_value(value)
