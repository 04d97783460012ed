"""Any value becomes some JSON, and never an exception."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import openai
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spancast.model import json_text


@dataclasses.dataclass
class Point:
    x: int
    y: object


class Model(pydantic.BaseModel):
    model_config = {"extra": "allow"}
    name: str
    absent: str | None = None


def _cycle() -> dict[str, Any]:
    cycle: dict[str, Any] = {"a": 1}
    cycle["self"] = cycle
    return cycle


def _deep(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, None, True, "é"]}, {"a": [1, 2.5, None, True, "é"]}),
        (Point(1, "x"), {"x": 1, "y": "x"}),
        (Model(name="n", more=3), {"name": "n", "more": 3}),  # pyright: ignore[reportCallIssue]
        ({"given": openai.NOT_GIVEN, "omitted": openai.omit}, {"given": None, "omitted": None}),
        ({"t": (1, 2), "s": {3}}, {"t": [1, 2], "s": [3]}),
        (b"abc", "<3 bytes>"),
        (float("nan"), None),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        (object(), "<object>"),
        (ValueError("secret"), "ValueError"),
        (2**80, 2**80),
        (_cycle(), {"a": 1, "self": "<circular>"}),
        ("\ud800", "?"),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    assert json.loads(json_text.encode(value)) == expected


def test_depth_is_bounded() -> None:
    assert "<too deep>" in json_text.encode(_deep(10_000))


@given(
    st.recursive(st.floats() | st.text() | st.binary() | st.integers(), lambda inner: st.lists(inner), max_leaves=20)
)
def test_always_valid_json(value: Any) -> None:
    json.loads(json_text.encode(value))


def test_a_class_is_its_name() -> None:
    assert json_text.encode({"model": Model, "plain": Point}) == '{"model":"Model","plain":"Point"}'
