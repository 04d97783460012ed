"""Trace keys: parsing, validation errors and merging."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spancast.model.trace_keys import MAX_CUSTOM_ATTRIBUTES, NO_KEYS, OVERFLOW_ATTRIBUTE, TraceKeys, flatten, read


def test_read_every_key() -> None:
    keys = read(
        {
            "trace_id": "order-7781", "trace_name": "Support", "span_name": "triage", "generation_name": "classify",
            "parent_span_id": "00f067aa0ba902b7", "feature": "billing", "tier": 2,
        },
        session_id="chat-42", user="u-7", metadata={"tenant": "t-1", "feature": "loses to trace"},
    )  # fmt: skip
    assert keys == TraceKeys(
        trace_id="order-7781", trace_name="Support", span_name="triage", generation_name="classify",
        parent_span_id="00f067aa0ba902b7", session_id="chat-42", user="u-7",
        custom={"feature": "billing", "tier": 2, "tenant": "t-1"},
    )  # fmt: skip


def test_attributes_of_every_json_type() -> None:
    assert flatten(
        {
            "text": "x", "whole": 2, "real": 0.5, "yes": True, "none": None,
            "words": ["a", "b"], "numbers": [1, 2], "mixed": [1, "a"], "empty": [],
            "nested": {"a": {"b": {"c": {"d": {"e": 1}}}}}, "big": 2**70, "objects": [{"a": 1}],
        }
    ) == {
        "trace.metadata.text": "x",
        "trace.metadata.whole": 2,
        "trace.metadata.real": 0.5,
        "trace.metadata.yes": True,
        "trace.metadata.words": ["a", "b"],
        "trace.metadata.numbers": [1, 2],
        "trace.metadata.mixed": '[1,"a"]',
        "trace.metadata.empty": "[]",
        "trace.metadata.nested.a.b.c": '{"d":{"e":1}}',
        "trace.metadata.big": str(2**70),
        "trace.metadata.objects": '[{"a":1}]',
    }  # fmt: skip


def test_attributes_too_many_custom_keys_share_overflow() -> None:
    flat = flatten({f"key-{number}": number for number in range(200)})
    assert len(flat) == MAX_CUSTOM_ATTRIBUTES
    assert '"key-199":199' in str(flat[OVERFLOW_ATTRIBUTE])


@pytest.mark.parametrize(
    ("trace", "others", "problem"),
    [
        ("oops", {}, "trace: str given, an object of keys is allowed; ignored"),
        ({"trace_id": ""}, {}, "trace.trace_id: empty, a string of 1 to 1024 characters is allowed; ignored"),
        ({"trace_id": 42}, {}, "trace.trace_id: int given, a string of 1 to 1024 characters is allowed; ignored"),
        ({"score": float("nan")}, {}, "trace.score: nan given, a finite number is allowed; written as text"),
        ({3: "x"}, {}, "trace: a key of type int given, strings are allowed; written as text"),
        ({"blob": "x" * 10_000_000}, {}, "trace.blob: 10000000 characters, at most 65536 are kept; cut"),
        ({"o": object()}, {}, "trace.o: object given, a JSON value is allowed; written as its type"),
        (
            None,
            {"session_id": object()},
            "session_id: object given, a string of 1 to 256 characters is allowed; ignored",
        ),
        (None, {"user": {1}}, "user: set given, a string of 1 to 128 characters is allowed; ignored"),
        (None, {"session_id": "s" * 257}, "session_id: 257 characters, at most 256 are allowed; cut"),
        (None, {"session_id": 7}, "session_id: int given, a string of 1 to 256 characters is allowed; ignored"),
        (None, {"metadata": {str(n): "x" for n in range(17)}}, "metadata: 17 pairs, at most 16 are allowed"),
        (None, {"metadata": {"k" * 65: "x"}}, "metadata: a pair is longer than the 64/512 characters allowed"),
    ],
)
def test_read_invalid_key_error_names_field_type_and_rule(trace: Any, others: Any, problem: str) -> None:
    assert read(trace, **others).validation_errors == (problem,)


def test_read_long_session_is_truncated() -> None:
    assert read(session_id="s" * 257).session_id == "s" * 256


def test_read_non_json_value_is_converted() -> None:
    one, tier = uuid.UUID(int=1), enum.Enum("Tier", {"GOLD": "gold"})
    inner = {"when": dt.date(2026, 1, 2), "\ud800": b"b"}
    keys = read(
        {"trace_name": tier.GOLD, "trace_id": one, "span_name": "x\ud800", "k\ud800": 1, "s": "\ud800", "inner": inner,
         "big": 2**70, "huge": 16**5000},
        session_id=one, user=b"u-7", metadata={"id": one},
    )  # fmt: skip
    inner["when"] = "changed afterwards"
    assert keys.validation_errors == ()
    assert keys.attributes() == {
        "session.id": str(one), "gen_ai.conversation.id": str(one), "user.id": "u-7", "trace.name": "gold",
        "spancast.trace.id": str(one), "spancast.trace.span_name": "x?", "trace.metadata.k?": 1, "trace.metadata.s": "?",
        "trace.metadata.inner.when": "2026-01-02", "trace.metadata.inner.?": "b",
        "trace.metadata.big": "1180591620717411303424", "trace.metadata.huge": hex(16**5000),
        "trace.metadata.id": str(one),
    }  # fmt: skip


def test_over_merges_key_by_key() -> None:
    inner = read({"trace_name": "A", "a": 1}, session_id="s1")
    outer = read({"trace_name": "B", "span_name": "C", "a": 2, "b": 3}, session_id="s2", user="u")
    assert inner.merged_over(outer) == read(
        {"trace_name": "A", "span_name": "C", "a": 1, "b": 3}, session_id="s1", user="u"
    )
    assert NO_KEYS.merged_over(outer) is outer
    assert inner.merged_over(NO_KEYS) is inner


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=30,
)


@given(trace=JSON, session=JSON, user=JSON, metadata=JSON)
def test_read_any_input_never_raises(trace: Any, session: Any, user: Any, metadata: Any) -> None:
    attributes = read(trace, session_id=session, user=user, metadata=metadata).attributes()
    assert all(isinstance(value, (str, bool, int, float, list)) for value in attributes.values())


MISSPELLED = {
    "trace_id": ("tarce_id", "trace_di", "trace_idd", "traceId", "traceid", "Trace-ID", "trce_id"),
    "trace_name": ("trace_nam", "tracename", "traceName", "trace name", "trce_nmae", "Trace_Name", "traace_name"),
    "span_name": ("span_nam", "spn_name", "spanName", "sapn_name", "spann_name"),
    "generation_name": ("generation_nam", "genertion_name", "generationName", "generaton_name", "genaration_name"),
    "parent_span_id": ("parent_spanid", "parentSpanId", "parnet_span_id", "parent_spn_id"),
    "session_id": ("sesion_id", "sessionId", "session-id", "sesssion_id", "sassion_id", "session_di"),
}
OTHER_KEYS = (
    "name", "span", "session", "user_id", "userId", "users", "id", "trace", "metadata", "feature", "tier",
    "trace_source", "trace_ids", "trace_date", "trace_note", "trace_type", "trace_no", "trace_url", "trace_uid",
    "trade_id", "track_name", "tracer_name", "race_id", "tract_id",
    "span_id", "span_kind", "span_names", "plan_name", "scan_name", "spa_name", "space_name",
    "session_ids", "session_ip", "session_uid", "session_key", "session_name", "version_id", "mission_id", "section_id",
    "parent_id", "parent_name", "generation", "generation_id", "generator_name", "region_name", "agent_name",
    "", "_", "__", "x" * 100, "ключ",
)  # fmt: skip


@pytest.mark.parametrize("known", MISSPELLED)
def test_misspelled_key_is_reported_with_the_nearest_one_and_kept(known: str) -> None:
    for name in MISSPELLED[known]:
        keys = read({name: "v"})
        assert keys.validation_errors == (
            f"trace.{name}: unknown key (did you mean `{known}`?); recorded as a custom one",
        )
        assert keys.custom == {name: "v"}


@pytest.mark.parametrize("name", OTHER_KEYS)
def test_key_with_a_name_of_its_own_is_not_reported(name: str) -> None:
    assert read({name: "v"}).validation_errors == ()


def test_request_metadata_is_not_checked_for_misspelled_keys() -> None:
    assert read(metadata={"trace_nam": "v"}).validation_errors == ()


class Broken(dict[str, Any]):
    """A mapping of the caller that cannot be read."""

    def _broken(self, *_: object) -> Any:
        raise RuntimeError("broken")

    __iter__ = __len__ = items = keys = __getitem__ = _broken


class Opaque:
    """An object of the caller whose methods raise."""

    def _broken(self, *_: object) -> Any:
        raise RuntimeError("broken")

    __str__ = __repr__ = __bool__ = __len__ = __eq__ = __getattr__ = _broken  # type: ignore[assignment]
    __hash__ = object.__hash__


@pytest.mark.parametrize("kind", [Broken, Opaque])
def test_object_that_cannot_be_read_is_reported_and_other_keys_are_kept(kind: type[Any]) -> None:
    broken = kind()
    for source in ("trace", "metadata"):
        keys = read(**{"session_id": "s", source: broken})
        assert keys.session_id == "s"
        assert keys.validation_errors == (f"{source}: {kind.__name__} given, an object of keys is allowed; ignored",)
    assert read({"a": broken, Opaque(): 1}, metadata={Opaque(): 1, "b": 2}).custom.keys() >= {"a", "b"}
