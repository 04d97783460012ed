"""Totals of many calls are read from cells, and are those of the calls."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from tests.destinations.spans import START_NS, span

from spancast.destinations import store_sums
from spancast.destinations.span_store import Store
from spancast.destinations.store_index import StoreIndex
from spancast.destinations.store_sums import DAY, HOUR, MODEL, PROVIDER, SESSION, STATUS, USER, Sums, day_begin
from spancast.encoding.span_data import SpanData
from spancast.model import semconv

HOUR_NS = 3_600 * 10**9
KEYS = (DAY, HOUR, MODEL, PROVIDER, SESSION, USER, STATUS, "feature", "tags")


def calls(count: int) -> list[SpanData]:
    """Calls of ten days, of three models, seven users and some keys; some failed."""
    chance = random.Random(7)
    made: list[SpanData] = []
    for number in range(count):
        attributes = {
            semconv.OPERATION_NAME: "chat",
            semconv.REQUEST_MODEL: f"model-{number % 3}",
            semconv.PROVIDER_NAME: "openai",
            semconv.USER_ID: f"u-{number % 7}",
            semconv.SESSION_ID: f"s-{number // 4}",
            semconv.USAGE_INPUT_TOKENS: number,
            semconv.USAGE_CACHE_READ: number // 2,
            semconv.USAGE_OUTPUT_TOKENS: 1,
            semconv.USAGE_COST: number * 1e-7,
            "trace.metadata.feature": chance.choice(["billing", "search"]),
            "trace.metadata.tags": chance.choice([["a"], ["a", "b"]]),
        }
        start_ns = START_NS + number * HOUR_NS // 4
        made.append(
            replace(
                span("chat", number + 1, trace_id=f"{number // 2:032x}", attributes=attributes),
                start_ns=start_ns,
                end_ns=start_ns + int(chance.lognormvariate(20, 1)),
                status="error" if number % 11 == 0 else "unset",
            )
        )
    return made


@pytest.fixture
def index(tmp_path: Path) -> StoreIndex:
    store = Store(tmp_path / "spans.db")
    store.write(calls(960))
    made = StoreIndex(store.path)
    made.refresh()
    return made


def both(
    index: StoreIndex, monkeypatch: pytest.MonkeyPatch, by: str, since_ns: int, wanted: list[tuple[str, str]]
) -> tuple[list[Sums], list[Sums]]:
    read = index.totals(by, since_ns, wanted)
    monkeypatch.setattr(store_sums, "_EXACT", 0)
    return index.totals(by, since_ns, wanted), read


def assert_same(found: list[Sums], expected: list[Sums]) -> None:
    plain = [one._replace(p50_ms=0.0, p95_ms=0.0) for one in found]
    assert plain == [one._replace(p50_ms=0.0, p95_ms=0.0) for one in expected]
    for one, exact in zip(found, expected, strict=True):
        assert one.p50_ms == pytest.approx(exact.p50_ms, rel=0.021)
        assert one.p95_ms == pytest.approx(exact.p95_ms, rel=0.021)


@pytest.mark.parametrize("since_ns", [0, START_NS + 30 * HOUR_NS + 1, day_begin(START_NS + 40 * HOUR_NS)])
@pytest.mark.parametrize("by", KEYS)
def test_totals_of_cells_are_those_of_the_calls(
    index: StoreIndex, monkeypatch: pytest.MonkeyPatch, by: str, since_ns: int
) -> None:
    found, expected = both(index, monkeypatch, by, since_ns, [])
    assert sum(one.calls for one in expected) >= 960 - 161
    assert_same(found, expected)


def test_totals_by_day_of_one_value_are_those_of_its_calls(index: StoreIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = both(index, monkeypatch, DAY, START_NS + 1, [(USER, "u-3")])
    assert sum(one.calls for one in expected) == len(range(3, 960, 7))
    assert_same(found, expected)


def test_totals_with_filters_are_of_the_calls_that_have_all(index: StoreIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [(MODEL, "model-1"), (USER, "u-3"), ("tags", "a"), (STATUS, "ok")]
    chosen = [one for one in range(960) if one % 3 == 1 and one % 7 == 3 and one % 11]
    for rare in (2_000, 0):
        monkeypatch.setattr(store_sums, "_RARE", rare)
        [sums] = index.totals(MODEL, 0, wanted)
        assert (sums.group, sums.calls, sums.input) == ("model-1", len(chosen), sum(chosen))
        assert (sums.cached, sums.errors) == (sum(one // 2 for one in chosen), 0)


def test_cells_follow_the_store(index: StoreIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(index.store)
    again = calls(960)[:10]
    store.write([replace(one, end_ns=one.start_ns + 5 * 10**9) for one in again])
    store.delete([f"{number:032x}" for number in range(3, 400)])
    index.refresh(vanished=True)
    for by in KEYS:
        assert_same(*both(index, monkeypatch, by, 0, []))
        monkeypatch.undo()
    store.delete(None)
    monkeypatch.setattr(store_sums, "_EXACT", -1)
    assert index.totals(DAY, 0) == []


def test_most_expensive_groups_and_newest_days_are_kept(index: StoreIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    for exact in (10_000, 0):
        monkeypatch.setattr(store_sums, "_EXACT", exact)
        assert [one.group for one in index.totals(SESSION, 0, limit=2)] == ["s-239", "s-238"]
        days = [one.group for one in index.totals(DAY, 0)]
        assert days == sorted(days)
        assert [one.group for one in index.totals(DAY, 0, limit=2)] == days[-2:]
