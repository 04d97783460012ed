"""Regular expressions of users: search, replacement, faults and timeouts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spancast.destinations.config import FilterRule, Mask
from spancast.encoding.safe_regex import TIMEOUT_S, Pattern, pattern_fault

ENDLESS = "(a|aa)+$"
ENDLESS_TEXT = "a" * 60 + "b"
SYNTAX = st.text('()[]{}*+?\\|^$.-,:=!<>&#PpNL0129ms"x', max_size=12)


@given(SYNTAX)
def test_pattern_fault_is_empty_or_a_message(pattern: str) -> None:
    fault = pattern_fault(pattern)
    if fault:
        assert fault.startswith("must be a regular expression: ")
    else:
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["(unclosed", "*", "[a", "a{2,1}", r"\p{NoSuch}", "(" * 5000 + ")" * 5000])
def test_invalid_pattern_error_names_the_setting(pattern: str) -> None:
    assert pattern_fault(pattern)
    with pytest.raises(ValueError, match="must be a regular expression"):
        Mask.model_validate(pattern)
    with pytest.raises(ValueError, match="must be a regular expression"):
        FilterRule.model_validate({"field": "input", "operator": "regex", "value": pattern})


def test_patterns_of_regex_library_are_accepted() -> None:
    # `re` rejects both: patterns are checked by the library that runs them.
    for pattern in (r"(?<=key:\s*)\w+", r"\p{Lu}+"):
        with pytest.raises(re.error):
            re.compile(pattern)
        assert Mask.model_validate(pattern).pattern == pattern


@given(st.text("ab.", max_size=10), st.text("ab.", min_size=1, max_size=2))
def test_searches_and_replaces_as_re_does(text: str, literal: str) -> None:
    pattern = re.escape(literal)
    assert Pattern(pattern).search(text) is (literal in text)
    assert Pattern(pattern).replace(text, "-") == text.replace(literal, "-")


def test_replacement_is_literal() -> None:
    assert Pattern("(a)").replace("cat", r"\1\g<0>") == r"c\1\g<0>t"


def test_slow_search_returns_none() -> None:
    pattern = Pattern(ENDLESS)
    assert pattern.search(ENDLESS_TEXT) is None
    assert pattern.replace(ENDLESS_TEXT, "") is None
    assert pattern.search("aaa") is True, "and goes on answering for other texts"


def test_many_slow_searches_take_the_time_of_a_few() -> None:
    pattern = Pattern(ENDLESS)
    limits_s: list[float] = []
    for _ in range(60):
        limits_s.append(pattern._limit_s())
        assert pattern.search(ENDLESS_TEXT) is None
    assert limits_s[0] == TIMEOUT_S
    assert sum(limits_s) < 5 * TIMEOUT_S
    assert pattern.search("aaa") is True
