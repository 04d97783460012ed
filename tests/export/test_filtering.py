"""Filters of destinations: OpenRouter's rules and those that spancast adds."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from tests.destinations.configs import config
from tests.destinations.spans import records, span

from spancast.diagnostics import Count, counters
from spancast.export import filtering as rules_module
from spancast.export.filtering import DestinationFilter, TraceSeen, group_filters, is_sampled
from spancast.model.span_record import SpanRecord

CALL: dict[str, Any] = {
    "operation": "chat", "model": "openai/gpt-4o", "provider": "OpenAI", "session_id": "s-1", "user_id": "u-1",
    "api_key_name": "production", "finish_reason": "stop", "total_cost": 0.04, "total_tokens": 150, "prompt_tokens": 100,
    "completion_tokens": 50, "input": '[{"content":"Refund, please"}]', "output": "done",
}  # fmt: skip


def record(*, is_genai: bool = True, trace: int = 1, parent_sampled: bool = True, **facts: Any) -> SpanRecord:
    [made] = records([replace(span("call", 1), parent_sampled=parent_sampled)])
    return replace(made, trace_id=trace.to_bytes(16, "big"), is_genai=is_genai, facts=facts)


def evaluate(given: SpanRecord, seen: TraceSeen | None = None, **fields: Any) -> str | None:
    return DestinationFilter("one", config("console", **fields)).evaluate(given, seen or TraceSeen())


def filtered(field: str, operator: str, value: Any = None, **facts: Any) -> bool:
    rule = {"field": field, "operator": operator} | ({} if value is None else {"value": value})
    return evaluate(record(**{**CALL, **facts}), filter_rules={"groups": [{"rules": [rule]}]}) is None


@pytest.mark.parametrize(
    ("field", "operator", "value", "takes"),
    [
        ("model", "equals", "openai/gpt-4o", True),
        ("model", "equals", "openai", False),
        ("model", "not_equals", "openai", True),
        ("provider", "contains", "pen", True),
        ("provider", "not_contains", "pen", False),
        ("session_id", "starts_with", "s-", True),
        ("user_id", "ends_with", "-2", False),
        ("api_key_name", "regex", "^prod", True),
        ("finish_reason", "regex", "^length$", False),
        ("input", "contains", "Refund", True),
        ("output", "equals", "done", True),
        ("total_cost", "gt", 0.04, False),
        ("total_cost", "gte", 0.04, True),
        ("total_cost", "lt", "0.05", True),
        ("total_tokens", "lte", 149, False),
        ("prompt_tokens", "equals", "100", True),
        ("prompt_tokens", "equals", 100.0, True),
        ("completion_tokens", "exists", None, True),
        ("completion_tokens", "not_exists", None, False),
    ],
)
def test_every_field_and_operator(field: str, operator: str, value: Any, takes: bool) -> None:
    assert filtered(field, operator, value) is takes


@pytest.mark.parametrize(
    ("operator", "value", "takes"),
    [("equals", "x", False), ("not_equals", "x", True), ("contains", "x", False), ("not_contains", "x", True),
     ("regex", ".", False), ("gt", 0, False), ("lt", 9, False), ("exists", None, False), ("not_exists", None, True)],
)  # fmt: skip
def test_missing_fact(operator: str, value: Any, takes: bool) -> None:
    facts = {name: fact for name, fact in CALL.items() if name != "finish_reason"}
    rule = {"field": "finish_reason", "operator": operator} | ({} if value is None else {"value": value})
    assert (evaluate(record(**facts), filter_rules={"groups": [{"rules": [rule]}]}) is None) is takes


def test_groups_are_joined_by_or_and_rules_by_their_logic() -> None:
    cheap, dear = ({"field": "total_cost", "operator": name, "value": 0.04} for name in ("lte", "gt"))
    other = {"field": "model", "operator": "equals", "value": "other"}
    both = [{"logic": "and", "rules": [cheap, other]}]
    either = [{"logic": "or", "rules": [cheap, other]}]
    assert evaluate(record(**CALL), filter_rules={"groups": both}) == rules_module.FILTERED
    assert evaluate(record(**CALL), filter_rules={"groups": either}) is None
    assert evaluate(record(**CALL), filter_rules={"groups": [*both, {"rules": [cheap]}]}) is None
    assert evaluate(record(**CALL), filter_rules={"groups": [{"rules": [dear]}]}) == rules_module.FILTERED
    assert evaluate(record(**CALL), filter_rules={"enabled": False, "groups": [{"rules": [dear]}]}) is None
    assert evaluate(record(**CALL), filter_rules={"groups": []}) is None


def test_slow_pattern_times_out_and_span_is_sent() -> None:
    before = counters.read()[Count("filter_timeouts", "one")]
    assert filtered("input", "regex", "(a|aa)+$", input="a" * 60 + "b")
    assert counters.read()[Count("filter_timeouts", "one")] == before + 1


def test_invalid_pattern_is_config_error() -> None:
    with pytest.raises(ValueError, match="regular expression"):
        filtered("input", "regex", "(unclosed")


def test_sampling_is_the_same_in_every_process_and_another_for_every_destination() -> None:
    keys = [f"session-{number}" for number in range(2000)]
    here = [is_sampled("one", key, 0.25) for key in keys]
    code = (
        "from spancast.export.filtering import is_sampled\n"
        "print([is_sampled('one', f'session-{n}', 0.25) for n in range(2000)])"
    )
    for seed in ("1", "2"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        result = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        assert result.stdout.strip() == str(here)
    assert 400 < sum(here) < 600
    both = sum(a and is_sampled("two", key, 0.25) for a, key in zip(here, keys, strict=True))
    assert 80 < both < 180, "independent: a sixteenth is taken by both"
    assert all(is_sampled("one", key, 0.5) for a, key in zip(here, keys, strict=True) if a), "nested rates are monotone"


def test_sampling_keeps_sessions_complete() -> None:
    rules = DestinationFilter("one", config("console", sampling_rate=0.5))
    for session in range(50):
        verdicts = {
            rules.evaluate(record(**{**CALL, "session_id": f"s{session}"}, trace=trace), TraceSeen(f"s{session}"))
            for trace in range(1, 6)
        }
        assert len(verdicts) == 1


def test_always_keep_settings() -> None:
    never = {"sampling_rate": 0.0001}
    assert evaluate(record(**CALL), **never) == rules_module.SAMPLED_OUT
    assert evaluate(record(**CALL, error="RateLimitError"), **never, always_keep_errors=True) is None
    assert evaluate(record(**CALL), **never, always_keep_cost_above=0.03) is None
    assert evaluate(record(**CALL), **never, always_keep_cost_above=0.04) == rules_module.SAMPLED_OUT


def test_api_keys() -> None:
    assert evaluate(record(**CALL), api_keys=["production"]) is None
    assert evaluate(record(**CALL), api_keys=["staging"]) == rules_module.OTHER_KEY
    assert evaluate(record(operation="chat", model="m"), api_keys=["staging"]) == rules_module.OTHER_KEY


def test_excluded_api_keys() -> None:
    assert evaluate(record(**CALL), exclude_api_keys=["staging"]) is None
    assert evaluate(record(operation="chat", model="m"), exclude_api_keys=["staging"]) is None
    assert evaluate(record(**CALL), exclude_api_keys=["production"]) == rules_module.OTHER_KEY
    assert evaluate(record(**CALL), api_keys=["production"], excludeApiKeys=["production"]) == rules_module.OTHER_KEY


def test_other_spans_only_if_configured() -> None:
    assert evaluate(record(is_genai=False), spans="genai") == rules_module.NON_GENAI
    assert evaluate(record(is_genai=False), spans="all") is None


@pytest.mark.parametrize(("respects", "reason"), [(False, None), (True, rules_module.PARENT_NOT_SAMPLED)])
def test_unsampled_parent_is_filtered(respects: bool, reason: str | None) -> None:
    assert evaluate(record(**CALL, parent_sampled=False), respect_parent_sampling=respects) == reason


def test_group_span_follows_calls_of_its_trace() -> None:
    wanted = {"filter_rules": {"groups": [{"rules": [{"field": "total_cost", "operator": "gt", "value": 1}]}]}}
    rules = DestinationFilter("one", config("console", **wanted))
    seen = TraceSeen()
    assert rules.evaluate(record(), seen) == rules_module.NO_CALL_TAKEN
    assert rules.evaluate(record(**{**CALL, "total_cost": 2.0}), seen) is None
    assert rules.evaluate(record(), seen) is None


def test_two_sessions_in_one_trace_are_sampled_apart() -> None:
    rules, traces = DestinationFilter("one", config("console", sampling_rate=0.5)), rules_module.TraceDecisions()
    for number in range(50):
        shared = record(**{**CALL, "session_id": f"first-{number}"}, trace=number + 1)
        rules.evaluate(shared, traces.of(shared))
        own = [
            record(**{**CALL, "session_id": f"second-{number}"}, trace=trace) for trace in (number + 1, number + 1000)
        ]
        assert len({rules.evaluate(one, traces.of(one)) for one in own}) == 1


def test_span_without_session_uses_session_of_trace_or_trace_id() -> None:
    rate = {"sampling_rate": 0.5}
    groups = [record(trace=trace) for trace in range(1, 60)]
    for one in groups:
        trace = one.trace_id.hex()
        assert (evaluate(one, **rate) is None) is is_sampled("one", trace, 0.5)
        assert (evaluate(one, TraceSeen("a session"), **rate) is None) is is_sampled("one", "a session", 0.5)


def test_trace_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "_MAX_TRACES", 3)
    traces = rules_module.TraceDecisions()
    first = traces.of(record(trace=1, session_id="s"))
    assert traces.of(record(trace=1)) is first
    assert first.session_id == "s"
    for trace in range(2, 5):
        traces.of(record(trace=trace))
    assert traces.of(record(trace=1)).session_id is None


def test_empty_value_does_not_exist() -> None:
    assert not filtered("finish_reason", "exists", finish_reason="")
    assert filtered("finish_reason", "not_exists", finish_reason="")
    assert filtered("total_cost", "exists", total_cost=0)


@pytest.mark.parametrize("operator", ["gt", "lt", "gte", "lte"])
@pytest.mark.parametrize("fact", ["many", True, float("nan"), pytest.param(10**400, id="huge")])
def test_non_number_does_not_match_comparison(operator: str, fact: Any) -> None:
    assert not filtered("total_tokens", operator, 5, total_tokens=fact)


@pytest.mark.parametrize(("value", "takes"), [("42", True), (42, True), ("042", False), ("4", False)])
def test_numeric_text_is_compared_as_text(value: Any, takes: bool) -> None:
    assert filtered("user_id", "equals", value, user_id="42") is takes


def test_text_is_compared_with_its_case_and_a_pattern_searches_anywhere() -> None:
    assert not filtered("provider", "contains", "openai")
    assert not filtered("provider", "equals", "openai")
    assert filtered("provider", "regex", "(?i)ENA")
    assert filtered("total_tokens", "contains", "5", total_tokens=150), "a number by its digits"
    assert filtered("total_tokens", "starts_with", 15, total_tokens=150)


def test_filter_group_without_rules_takes_everything() -> None:
    no = {"field": "model", "operator": "equals", "value": "other"}
    assert evaluate(record(**CALL), filter_rules={"groups": [{"rules": [no]}, {"rules": []}]}) is None


def test_always_keep_does_not_bypass_filters_and_keys() -> None:
    failed = record(**CALL, error="RateLimitError")
    no = {"groups": [{"rules": [{"field": "model", "operator": "equals", "value": "other"}]}]}
    assert evaluate(failed, always_keep_errors=True, filter_rules=no) == rules_module.FILTERED
    assert evaluate(failed, always_keep_errors=True, api_keys=["staging"]) == rules_module.OTHER_KEY
    assert evaluate(record(is_genai=False, error="E"), always_keep_errors=True) == rules_module.NON_GENAI


def test_group_of_always_kept_call_is_kept() -> None:
    rules, seen = (
        DestinationFilter("one", config("console", sampling_rate=0.0001, always_keep_cost_above=0.01)),
        TraceSeen(),
    )
    assert rules.evaluate(record(), seen) == rules_module.SAMPLED_OUT, "a group that ended before it cannot know"
    assert rules.evaluate(record(**CALL), seen) is None
    assert rules.evaluate(record(), seen) is None
    assert (
        DestinationFilter("two", config("console", sampling_rate=0.0001)).evaluate(record(), seen)
        == rules_module.SAMPLED_OUT
    )


def test_equal_filters_are_grouped_and_trivial_filters_left_out() -> None:
    given = {
        "all": {"spans": "all", "respect_parent_sampling": False},
        "llm": {"spans": "genai", "respect_parent_sampling": False},
        "llm too": {"spans": "genai", "respect_parent_sampling": False},
        "parent": {"spans": "all", "respect_parent_sampling": True},
        "some": {"spans": "genai", "respect_parent_sampling": False, "sampling_rate": 0.5},
        "some too": {"spans": "genai", "respect_parent_sampling": False, "sampling_rate": 0.5},
        "keys": {"spans": "all", "respect_parent_sampling": False, "api_keys": ["production"]},
    }
    rules = [DestinationFilter(name, config("console", **fields)) for name, fields in given.items()]
    assert [names for names, _ in group_filters(rules)] == [
        ("llm", "llm too"),
        ("parent",),
        ("some",),
        ("some too",),
        ("keys",),
    ]
    assert [one.name for one in rules if one.needs_history] == ["some", "some too", "keys"]
    for names, asked in group_filters(rules):
        for one in (record(), record(**CALL), record(is_genai=False), record(parent_sampled=False, **CALL)):
            verdicts = {own.evaluate(one, TraceSeen()) for own in rules if own.name in names}
            assert verdicts == {asked.evaluate(one, TraceSeen())}


def test_filter_without_rules_takes_everything() -> None:
    for given in (record(), record(**CALL), record(is_genai=False, error="E"), record(parent_sampled=False)):
        assert evaluate(given, spans="all", respect_parent_sampling=False) is None
