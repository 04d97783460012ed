"""Conversion of attribute values of any type to the type that a reader expects.

Invariants: never raises (``test_attribute_values.py``).
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from spancast.model import json_codec

_DECIMAL: Final = re.compile(r"[+-]?\d{1,40}(?:\.\d{1,40})?", re.ASCII)
_INT64: Final = 1 << 63
_FLOAT_BITS: Final = 1024


def text_of(value: Any) -> str | None:  # noqa: ANN401 - any attribute value
    """Return a string as it is, None for None, any other value as JSON text."""
    return value if value is None or isinstance(value, str) else json_codec.encode(value)


def number_of(value: Any) -> float | None:  # noqa: ANN401
    """Return ``value`` if it is a finite number or a decimal string, else None.

    An integer that does not fit into 64 bits is returned as a float.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value):
            return None
        value = float(value) if "." in value else int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, int) or value.bit_length() >= _FLOAT_BITS:
        return None
    return value if -_INT64 <= value < _INT64 else float(value)


def count_of(value: Any) -> int | None:  # noqa: ANN401
    """Return ``value`` as an integer if it is a number from 0 to 2**63 - 1 or the string of one, else None."""
    number = value if type(value) is int else number_of(value)
    return int(number) if number is not None and 0 <= number < _INT64 else None
