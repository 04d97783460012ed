"""Truncation of values and spans: JSON stays valid, and truncated attributes are marked."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.destinations.spans import span

from spancast.encoding.span_data import EventData
from spancast.encoding.truncation import size_steps, truncate_values
from spancast.model import json_codec
from spancast.model.truncation import MARK, fitted_json, shortened

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=200),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=8),
    max_leaves=60,
)


def size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


@given(JSON, st.integers(64, 2000), st.booleans())
def test_json_stays_json_and_fits(value: Any, max_bytes: int, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "replace").decode()
    short = shortened(text, max_bytes)
    assert size(short) <= max_bytes
    if size(text) <= max_bytes:
        assert short is text
    elif isinstance(value, (dict, list)):
        json.loads(short)


@given(JSON, st.integers(2, 400))
def test_json_of_a_span_fits_any_limit_of_characters(value: Any, max_length: int) -> None:
    text = json.dumps(value)
    fitted = fitted_json(text, max_length)
    if len(text) <= max_length or not isinstance(value, (dict, list)):
        assert fitted is text
    else:
        assert len(fitted) <= max_length
        json.loads(fitted)
    assert fitted_json("[no json", 4) == "[no json"


@given(st.text(max_size=300), st.integers(64, 300))
def test_truncated_text_keeps_start_and_complete_characters(text: str, max_bytes: int) -> None:
    short = shortened(text, max_bytes)
    assert size(short) <= max_bytes
    if short is not text:
        head = short.removesuffix(MARK)
        assert short.endswith(MARK)
        assert text.encode("utf-8", "replace").decode().startswith(head)
        assert size(head) > max_bytes - len(MARK) - 4, "no more is cut than must be"


def test_messages_keep_first_and_last_and_count_omitted() -> None:
    messages = [{"role": "user", "parts": [{"type": "text", "content": f"turn {n}"}]} for n in range(400)]
    messages[0]["role"] = "system"
    short = json.loads(shortened(json.dumps(messages), 4000))
    assert short[0] == messages[0]
    assert short[-1] == messages[-1]
    [note] = [one for one in short if "truncated" in json.dumps(one)]
    assert note == {
        "role": "system",
        "parts": [{"type": "text", "content": f"[{400 - len(short) + 1} messages truncated]"}],
    }


def test_long_texts_are_cut_before_messages_are_left_out() -> None:
    messages = [{"role": "user", "content": "x" * 5000}, {"role": "assistant", "content": "short"}]
    first, last = json.loads(shortened(json.dumps(messages), 1000))
    assert first["content"].endswith(MARK)
    assert last == messages[1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (list(range(1000)), {"omitted_items": 1000}),
        ({f"key-{n}": n for n in range(1000)}, {"reason": "too_large"}),
    ],
)
def test_value_without_texts_is_marked_like_openrouter(value: Any, expected: dict[str, Any]) -> None:
    short = json.loads(shortened(json.dumps(value), 200))
    marks = short if isinstance(short, list) else [short]
    [mark] = [one["openrouter_truncated"] for one in marks if isinstance(one, dict)]
    if isinstance(short, list):
        expected = {"omitted_items": 1000 - (len(short) - 1)}
    assert mark == expected


def test_json_nested_too_deeply_is_marked_and_raises_nothing() -> None:
    assert json.loads(shortened("[" * 900 + "]" * 900, 100)) is not None


def test_truncated_value_is_marked_and_others_unchanged() -> None:
    given_span = span("x", 1, attributes={"long": "ü" * 500, "short": "a", "count": 3, "list": ["b", "c"]})
    short = truncate_values(given_span, 100).attributes
    assert size(short["long"]) <= 100
    assert (short["long.truncated"], short["long.original_bytes"]) == (True, 1000)
    assert {name: short[name] for name in ("short", "count", "list")} == {"short": "a", "count": 3, "list": ["b", "c"]}
    assert len(short) == 6


def test_truncated_twice_keeps_original_length() -> None:
    once = truncate_values(span("x", 1, attributes={"long": "a" * 1000}), 500)
    assert truncate_values(once, 100).attributes["long.original_bytes"] == 1000


def test_lists_events_and_the_status_are_shortened_too() -> None:
    event = EventData(name="exception", at_ns=1, attributes={"exception.stacktrace": "s" * 9000})
    large = replace(
        span("x", 1, attributes={"texts": ["t" * 3000] * 3, "many": ["x" * 40] * 500}),
        events=(event,), status_message="m" * 9000,
    )  # fmt: skip
    short = truncate_values(large, 1000)
    for name in ("texts", "many"):
        assert sum(map(size, short.attributes[name])) <= 1000
        assert short.attributes[name + ".truncated"] is True
    assert size(short.events[0].attributes["exception.stacktrace"]) <= 1000
    assert short.events[0].attributes["exception.stacktrace.original_bytes"] == 9000
    assert size(short.status_message) <= 1000


@pytest.mark.parametrize("where", ["attribute", "list", "event", "status"])
def test_size_steps_reach_minimum_for_any_largest_text(where: str) -> None:
    text = "x" * 10_000
    one = {
        "attribute": span("x", 1, attributes={"a": text}),
        "list": span("x", 1, attributes={"a": [text]}),
        "event": span("x", 1, attributes={}, events=(EventData(name="e", at_ns=1, attributes={"a": text}),)),
        "status": span("x", 1, attributes={}, status_message=text),
    }[where]
    steps = size_steps(one, 0)
    assert steps[0] == 5000
    assert steps[-1] == 64
    assert steps == sorted(steps, reverse=True)


def test_size_steps_of_small_span_are_empty() -> None:
    assert size_steps(span("x", 1, attributes={"a": "x", "n": 5}), 0) == []


@pytest.mark.parametrize("max_bytes", [400_000, 64_000, 1_000, 64])
@pytest.mark.parametrize("kind", ["many small values", "many texts", "one long text"])
def test_work_of_truncation_is_proportional_to_the_value(kind: str, max_bytes: int) -> None:
    """Log probabilities of a long answer have a million values, and none can be shortened."""
    values = 20_000
    value: Any = {
        "many small values": [{"logprob": float(n), "bytes": [1, 2], "token": "x"} for n in range(values // 6)],
        "many texts": [{"text": "long text " * 20} for _ in range(values // 2)],
        "one long text": ["x" * 2_000_000],
    }[kind]
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    text = json_codec.encode(value)
    sys.setprofile(count)
    try:
        short = shortened(text, max_bytes)
    finally:
        sys.setprofile(None)
    assert len(short) <= max_bytes
    # Each value is measured and shortened once or twice: about ten calls of functions. One more attempt each would be 100.
    assert calls < 30 * values, calls / values


def test_size_steps_begin_where_the_span_is_expected_to_fit() -> None:
    one = span("x", 1, attributes={"a": "x" * 1_000_000, "b": "y" * 500})
    assert size_steps(one, 990_000)[0] < 10_000
    assert size_steps(one, 600_000)[0] == 250_000
