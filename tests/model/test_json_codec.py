"""Any value is encoded as valid JSON, without an exception."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import openai
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spancast.model import json_codec


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
        ({"n": 10**6000, 10**6000: -(10**6000)}, {"n": hex(10**6000), hex(10**6000): hex(-(10**6000))}),
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
def test_encode_each_type(value: Any, expected: Any) -> None:
    assert json.loads(json_codec.encode(value)) == expected


def test_encode_deep_value_is_bounded() -> None:
    assert "<too deep>" in json_codec.encode(_deep(10_000))


@given(
    st.recursive(st.floats() | st.text() | st.binary() | st.integers(), lambda inner: st.lists(inner), max_leaves=20)
)
def test_encode_any_value_gives_valid_json(value: Any) -> None:
    json.loads(json_codec.encode(value))


def test_encode_class_gives_its_name() -> None:
    assert json_codec.encode({"model": Model, "plain": Point}) == '{"model":"Model","plain":"Point"}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": "x \\ud83d y"}', {"a": "x ? y"}),
        ('{"a": "x \ud83d y"}', {"a": "x ? y"}),
        ('{"\\ude00": "\\ud83d\\ude00\\ud83d"}', {"?": "\U0001f600?"}),
        ('{"a": [NaN, Infinity, -Infinity, 1e999], "b": 1}', {"a": [None] * 4, "b": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ("NaN", None),
        ("{", None),
        ('{"a": 01}', None),
    ],
)
@pytest.mark.parametrize("is_bytes", [False, True], ids=["text", "bytes"])
def test_decode_accepts_what_standard_json_accepts(text: str, expected: Any, *, is_bytes: bool) -> None:
    given = text.encode("utf-8", "surrogatepass") if is_bytes else text
    assert json_codec.decode(given) == expected
    json_codec.encode(json_codec.decode(given)).encode()


def test_decode_bytes_that_are_not_utf_8_keeps_the_rest() -> None:
    assert json_codec.decode(b'{"text": "caf\xe9", "n": 1}') == {"text": "caf\ufffd", "n": 1}


def test_decode_large_integer_same_in_both_decoders() -> None:
    digits = str(2**64)
    plain, odd = json_codec.decode(f"[{digits}]"), json_codec.decode(f"[{digits}, NaN]")
    assert plain == odd[:1] == [2.0**64]
    assert type(plain[0]) is type(odd[0]) is float


def test_decode_excessive_nesting_returns_none() -> None:
    assert json_codec.decode("[" * 100_000 + "NaN" + "]" * 100_000) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(st.characters()) | st.integers(-(2**63), 2**64 - 1),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_decode_then_encode_any_value(value: Any) -> None:
    text = json.dumps(value)
    read = json_codec.decode(text)
    sent = json_codec.encode(read)
    assert json.loads(sent) == json_codec.decode(text)
