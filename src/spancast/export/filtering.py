"""Sampling and filtering for one destination, evaluated once per span record.

Source: OpenRouter Broadcast (sampling, API keys, filter rules). Added here: kinds of spans, the sampling flag of the
parent, and spans that are always kept.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

from spancast.destinations.config import DestinationConfig, FilterRule
from spancast.diagnostics import counters, warn_once
from spancast.encoding.safe_regex import Pattern
from spancast.encoding.span_data import read_record
from spancast.model.span_record import FactValue, SpanRecord

Facts: TypeAlias = Mapping[str, FactValue]
Test: TypeAlias = Callable[[Facts], bool]

NON_GENAI: Final = "not an LLM span"
PARENT_NOT_SAMPLED: Final = "its parent was not sampled"
OTHER_KEY: Final = "another API key"
FILTERED: Final = "filter rules"
NO_CALL_TAKEN: Final = "no call of its trace was taken before it ended"
SAMPLED_OUT: Final = "sampled out"

REASON_CATEGORY: Final[Mapping[str, str]] = {
    SAMPLED_OUT: "sampled_out", PARENT_NOT_SAMPLED: "sampled_out", NON_GENAI: "non_genai",
}  # fmt: skip
"""The counter of a reason in ``stats()``; other reasons count as ``filtered``."""

_MAX_TRACES: Final = 10_000
_HASH_SPACE: Final = 2**64


@dataclass(slots=True)
class TraceSeen:
    """The session of one trace, and the routes that took a call of it in this process."""

    session_id: str | None = None
    exported_to: set[str] = field(default_factory=set[str])


NO_HISTORY: Final = TraceSeen()
"""Passed to filters that need no history."""


class TraceDecisions:
    """The latest traces, bounded. Group spans and other spans follow the calls of their trace that ended before."""

    def __init__(self) -> None:
        self._traces: OrderedDict[bytes, TraceSeen] = OrderedDict()

    def of(self, record: SpanRecord) -> TraceSeen:
        """Return the history of the trace of ``record``, and add the session of ``record`` to it."""
        seen = self._traces.get(record.trace_id)
        if seen is None:
            seen = self._traces[record.trace_id] = TraceSeen()
            if len(self._traces) > _MAX_TRACES:
                self._traces.popitem(last=False)
        session = record.facts.get("session_id")
        if session is not None and seen.session_id is None:
            seen.session_id = str(session)
        return seen


class DestinationFilter:
    """The sampling and filter rules of the destination ``name``."""

    def __init__(self, name: str, config: DestinationConfig) -> None:
        self._name = name
        self._only_genai = config.spans == "genai"
        self._respects_parent = config.respect_parent_sampling
        self._filter = _filter_of(name, config)
        self._api_keys = frozenset(config.api_keys or ())
        self._excluded_keys = frozenset(config.exclude_api_keys or ())
        self._selects_calls = config.selects_calls
        self._rate = config.sampling_rate
        self._keeps_errors = config.always_keep_errors
        self._keeps_cost_above = config.always_keep_cost_above
        self.needs_history = self._selects_calls or self._rate < 1

    @property
    def name(self) -> str:
        """Return the name of the destination."""
        return self._name

    @property
    def simple_key(self) -> tuple[bool, bool] | None:
        """Return a key that is equal for filters with equal results; None if the result depends on history."""
        return None if self.needs_history else (self._only_genai, self._respects_parent)

    def evaluate(self, record: SpanRecord, seen: TraceSeen) -> str | None:
        """Return the reason to leave ``record`` out, or None if this destination takes it."""
        facts = record.facts
        if self._only_genai and not record.is_genai:
            return NON_GENAI
        if self._respects_parent and not read_record(record).parent_sampled:
            return PARENT_NOT_SAMPLED
        if not self.needs_history:
            return None
        reason = self._of_call(facts, seen, record) if "model" in facts else self._of_other(seen, record)
        if reason is None and "model" in facts:
            seen.exported_to.add(self._name)
        return reason

    def _of_call(self, facts: Facts, seen: TraceSeen, record: SpanRecord) -> str | None:
        key = facts.get("api_key_name")
        if (self._api_keys and key not in self._api_keys) or key in self._excluded_keys:
            return OTHER_KEY
        if self._filter is not None and not self._filter(facts):
            return FILTERED
        return None if self._is_kept(facts) or self._is_sampled(seen, record) else SAMPLED_OUT

    def _of_other(self, seen: TraceSeen, record: SpanRecord) -> str | None:
        # A span that is not a call has no model, key or cost to filter by: it follows the calls of its trace.
        if self._name in seen.exported_to or (self._keeps_errors and "error" in record.facts):
            return None
        if self._selects_calls:
            return NO_CALL_TAKEN
        return None if self._is_sampled(seen, record) else SAMPLED_OUT

    def _is_kept(self, facts: Facts) -> bool:
        if self._keeps_errors and "error" in facts:
            return True
        cost = _number(facts.get("total_cost"))
        return self._keeps_cost_above is not None and cost is not None and cost > self._keeps_cost_above

    def _is_sampled(self, seen: TraceSeen, record: SpanRecord) -> bool:
        return self._rate >= 1 or is_sampled(self._name, self._session(seen, record), self._rate)

    @staticmethod
    def _session(seen: TraceSeen, record: SpanRecord) -> str:
        # Its own session first: sampling keeps a session complete even if two sessions share a trace.
        return str(record.facts.get("session_id") or seen.session_id or record.trace_id.hex())


def group_filters(given: Sequence[DestinationFilter]) -> list[tuple[tuple[str, ...], DestinationFilter]]:
    """Return each distinct filter with the names of its destinations; filters that take everything are left out."""
    groups: dict[object, tuple[list[str], DestinationFilter]] = {}
    for rules in given:
        key = id(rules) if rules.simple_key is None else rules.simple_key
        groups.setdefault(key, ([], rules))[0].append(rules.name)
    return [(tuple(names), rules) for key, (names, rules) in groups.items() if key != (False, False)]


def is_sampled(destination: str, key: str, rate: float) -> bool:
    """Return whether ``key`` (a session, else a trace id) is in the sample of ``rate`` at ``destination``.

    The result is equal in every process, monotone in ``rate`` and independent between destinations.
    """
    digest = hashlib.sha256(f"{destination}:{key}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") / _HASH_SPACE < rate


def _filter_of(name: str, config: DestinationConfig) -> Test | None:
    rules = config.filter_rules
    if rules is None or not rules.enabled or not rules.groups or any(not group.rules for group in rules.groups):
        return None
    groups = [
        (all if group.logic == "and" else any, [_test(name, rule) for rule in group.rules]) for group in rules.groups
    ]
    return lambda facts: any(join(test(facts) for test in tests) for join, tests in groups)


_ORDER: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "gt": operator.gt, "lt": operator.lt, "gte": operator.ge, "lte": operator.le,
}  # fmt: skip
_TEXT: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "contains": operator.contains, "starts_with": str.startswith, "ends_with": str.endswith,
}  # fmt: skip


def _test(name: str, rule: FilterRule) -> Test:
    fact, given = rule.field, rule.value
    if rule.operator == "exists":
        return lambda facts: facts.get(fact) not in (None, "")
    if rule.operator == "not_exists":
        return lambda facts: facts.get(fact) in (None, "")
    given = cast("str | int | float", given)
    if rule.operator in _ORDER:
        compare, bound = _ORDER[rule.operator], float(given)
        return lambda facts: (number := _number(facts.get(fact))) is not None and compare(number, bound)
    if rule.operator in ("equals", "not_equals"):
        return _negated(lambda facts: _equal(facts.get(fact), given), rule.operator == "not_equals")
    if rule.operator == "regex":
        return _regex(name, fact, str(given))
    match = _TEXT[rule.operator.removeprefix("not_")]

    def matches(facts: Facts) -> bool:
        value = facts.get(fact)
        return value is not None and match(_text(value), str(given))

    return _negated(matches, rule.operator.startswith("not_"))


def _negated(test: Test, is_negated: bool) -> Test:
    return (lambda facts: not test(facts)) if is_negated else test


def _regex(name: str, fact: str, expression: str) -> Test:
    pattern = Pattern(expression)

    def matches(facts: Facts) -> bool:
        value = facts.get(fact)
        if value is None:
            return False
        matched = pattern.search(_text(value))
        if matched is None:
            # A slow pattern must not lose spans: the span is sent and the timeout is counted.
            counters.add("filter_timeouts", destination=name)
            warn_once(
                f"filter_timeout:{name}", "spancast: a filter pattern of %s took too long; the span is sent", name
            )
        return matched is not False

    return matches


def _equal(value: FactValue | None, given: str | float) -> bool:
    if value is None:
        return False
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value == _number(given)
    return _text(value) == str(given)


def _number(value: Any) -> float | None:  # noqa: ANN401 - a fact or a rule's value
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(value: FactValue) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
