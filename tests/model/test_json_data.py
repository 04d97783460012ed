"""Any value is converted to JSON data by the rule of its type, without an exception."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import json
import pathlib
import types
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import openai
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spancast.model.json_data import is_json_type, json_data, json_string, sendable


class Tier(enum.Enum):
    GOLD = "gold"
    PAIR = (1, uuid.UUID(int=2))


class Text(enum.StrEnum):
    A = "a"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    y: object = None


class Model(pydantic.BaseModel):
    model_config = {"extra": "allow"}
    name: str
    when: dt.date | None = None


class Pair(NamedTuple):
    a: int
    b: object


class RaisingStr:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__
    __eq__ = __str__  # type: ignore[assignment]
    __hash__ = __str__  # type: ignore[assignment]


class WithStr:
    def __str__(self) -> str:
        return "spoken"


class Unreadable(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise OSError("gone")

    def __len__(self) -> int:
        return 1


class NotJson(float):
    pass


def cycle() -> dict[str, Any]:
    made: dict[str, Any] = {"a": 1}
    made["self"] = [made]
    return made


RULES: dict[str, tuple[Any, Any]] = {
    "uuid": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "decimal": (decimal.Decimal("1.10"), "1.10"),
    "nan": (float("nan"), "nan"),
    "infinity": (float("-inf"), "-inf"),
    "bytes": (b"caf\xc3\xa9", "café"),
    "other bytes": (b"\xff\x00", "/wA="),
    "bytearray": (bytearray(b"ab"), "ab"),
    "memoryview": (memoryview(b"ab"), "ab"),
    "set": ({"b", "a"}, ["a", "b"]),
    "set of all kinds": ({uuid.UUID(int=1)}, ["00000000-0000-0000-0000-000000000001"]),
    "frozenset": (frozenset({2, 1}), [1, 2]),
    "tuple": ((1, {2}), [1, [2]]),
    "named tuple": (Pair(1, uuid.UUID(int=2)), [1, "00000000-0000-0000-0000-000000000002"]),
    "deque": (collections.deque([1]), [1]),
    "dataclass": (Point(1, {2}), {"x": 1, "y": [2]}),
    "model": (Model(name="n", when=dt.date(2026, 1, 2), more=3), {"name": "n", "when": "2026-01-02", "more": 3}),  # type: ignore[call-arg]
    "datetime": (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05+00:00"),
    "date": (dt.date(2026, 1, 2), "2026-01-02"),
    "time": (dt.time(3, 4), "03:04:00"),
    "timedelta": (dt.timedelta(minutes=1.5), 90.0),
    "enum": (Tier.GOLD, "gold"),
    "enum of a tuple": (Tier.PAIR, [1, "00000000-0000-0000-0000-000000000002"]),
    "text enum": (Text.A, "a"),
    "whole enum": (Level.HIGH, 3),
    "lone surrogate": ("x\ud800y", "x?y"),
    "text": ("é😀", "é😀"),
    "big integer": (2**63, "9223372036854775808"),
    "small integer": (-(2**63), -(2**63)),
    "huge integer": (16**5000, "0x1" + "0" * 5000),
    "path": (pathlib.PurePosixPath("/a/b"), "/a/b"),
    "address": (ipaddress.ip_address("::1"), "::1"),
    "exception": (ValueError("wrong"), "wrong"),
    "object": (object(), "<object>"),
    "function": (print, "<builtin_function_or_method>"),
    "class": (Point, "Point"),
    "own text": (WithStr(), "spoken"),
    "no text": (RaisingStr(), "<RaisingStr>"),
    "no mapping": (Unreadable(), "<Unreadable>"),
    "other mapping": (types.MappingProxyType({"a": b"b"}), {"a": "b"}),
    "keys": (
        {False: 1, 1: 1, 1.5: 1, None: 1, uuid.UUID(int=1): 1, (1,): 1, "\ud800": 1, Text.A: 1},
        {"false": 1, "1": 1, "1.5": 1, "null": 1, "00000000-0000-0000-0000-000000000001": 1, "<tuple>": 1, "?": 1, "a": 1},
    ),
    "not given": ({"a": openai.NOT_GIVEN, "b": openai.omit, "c": None}, {"c": None}),
    "cycle": (cycle(), {"a": 1, "self": ["<circular>"]}),
    "subclass": (NotJson("nan"), "nan"),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_json_data_each_type(name: str) -> None:
    value, expected = RULES[name]
    data = json_data(value)
    assert (data, type(data)) == (expected, type(expected))
    assert json_data({"within": [value]}) == {"within": [expected]}
    assert json.loads(json.dumps(data, allow_nan=False).encode()) == expected


def test_json_data_repeated_object_is_no_cycle() -> None:
    shared = [1]
    assert json_data([shared, shared]) == [[1], [1]]


def test_json_data_depth_and_size_are_bounded() -> None:
    deep: Any = "end"
    for _ in range(10_000):
        deep = [deep]
    assert "<too deep>" in json.dumps(json_data(deep))
    wide: Any = "x"
    for _ in range(60):
        wide = [wide, wide]
    assert "<too many>" in json.dumps(json_data(wide))


def test_sendable_json_value_is_returned_unchanged() -> None:
    value = {"a": [1, 2.5, None, True, "é", (1, {"b": []})]}
    assert sendable(value) is value
    assert sendable({"a": [b"b"]}) == {"a": ["b"]}
    assert sendable(float("inf")) == "inf"
    assert [is_json_type(one) for one in ([b"b"], float("nan"), b"b", Text.A, None)] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_json_data_does_not_modify_value() -> None:
    inner = {"b": {1}}
    value = {"a": inner, 3: inner}
    json_data(value)
    assert (value, inner, value["a"] is inner) == ({"a": inner, 3: inner}, {"b": {1}}, True)
    data = json_data({"a": [1]})
    assert json_data(data) is not data


def test_json_string_only_for_objects_with_str() -> None:
    texts = [uuid.UUID(int=1), b"b", Text.A, Tier.GOLD, "x\ud800", decimal.Decimal(1), WithStr()]
    assert [json_string(one) for one in texts] == [json_data(one) for one in texts]
    assert [
        json_string(one)
        for one in (1, 1.5, float("nan"), 2**70, True, Level.HIGH, {1}, Point(1), object(), RaisingStr())
    ] == [None] * 10


@given(
    st.recursive(
        st.floats()
        | st.text()
        | st.binary()
        | st.integers()
        | st.decimals()
        | st.uuids()
        | st.datetimes()
        | st.none()
        | st.complex_numbers()
        | st.characters(codec=None, categories=["Cs"]),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.binary(), inner) | st.tuples(inner)
        ),
        max_leaves=20,
    )
)
def test_json_data_any_value_gives_valid_json(value: Any) -> None:
    json.dumps(json_data(value), allow_nan=False, ensure_ascii=False).encode()
