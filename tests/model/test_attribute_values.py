"""Attribute values of any type are converted to the expected type or None."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spancast.model.attribute_values import count_of, number_of, text_of

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
ANY = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)), max_leaves=8)


@pytest.mark.parametrize(
    ("value", "text", "number", "count"),
    [
        ("gpt", "gpt", None, None),
        ("12", "12", 12, 12),
        ("0.5", "0.5", 0.5, 0),
        ("-3", "-3", -3, None),
        ("", "", None, None),
        (" 12", " 12", None, None),
        ("1e9", "1e9", None, None),
        ("nan", "nan", None, None),
        ("٣", "٣", None, None),
        ("9" * 5000, "9" * 5000, None, None),
        (7, "7", 7, 7),
        (-7, "-7", -7, None),
        (2**63 - 1, str(2**63 - 1), 2**63 - 1, 2**63 - 1),
        (2**63, str(2**63), 2.0**63, None),
        (str(2**63), str(2**63), 2.0**63, None),
        (10**400, str(10**400), None, None),
        (12.9, "12.9", 12.9, 12),
        (math.nan, "null", None, None),
        (math.inf, "null", None, None),
        (True, "true", None, None),
        (["a", "b"], '["a","b"]', None, None),
        ({"a": 1}, '{"a":1}', None, None),
        (b"abc", '"<3 bytes>"', None, None),
        (None, None, None, None),
    ],
)
def test_conversion_of_each_type(value: Any, text: str | None, number: float | None, count: int | None) -> None:
    converted = text_of(value)
    assert converted == text
    assert (number_of(value), count_of(value)) == (number, count)
    assert type(number_of(value)) is type(number)


@settings(deadline=None)
@given(ANY)
def test_conversion_of_any_value_never_raises(value: Any) -> None:
    assert isinstance(text_of(value), (str, type(None)))
    number, count = number_of(value), count_of(value)
    assert number is None or math.isfinite(number)
    assert not isinstance(number, int) or -(2**63) <= number < 2**63
    assert count is None or 0 <= count < 2**63
