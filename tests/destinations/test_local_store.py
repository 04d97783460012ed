from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import CALL, START_NS, TRACE_ID, conversation, span

from spancast.destinations.local_store import Store, StoreConfig, StoreDestination, default_store_path
from spancast.destinations.protocol import Delivered, Retry
from spancast.model import semconv

START_S = START_NS / 1e9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "spans.db"


def destination(path: Path, now_s: float = START_S) -> StoreDestination:
    return StoreDestination(StoreConfig(type="store", path=path), ENCODER, lambda: now_s)


def test_deliver_twice_stores_each_span_once(path: Path) -> None:
    to = destination(path)
    assert to.test_connection(1) == Delivered()
    assert [to.deliver(payload(), 1), to.deliver(payload(), 1)] == [Delivered(), Delivered()]
    to.close()
    assert Store(path).trace(TRACE_ID) == sorted(conversation(), key=lambda one: one.start_ns)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (
        stat.S_IMODE(
            path.with_name("spans.db-wal").stat().st_mode if path.with_name("spans.db-wal").exists() else 0o600
        )
        == 0o600
    )


def test_deliver_writes_columns_for_sql_clients(path: Path) -> None:
    destination(path).deliver(payload(), 1)
    query = "SELECT name, start, duration_ms, model, provider, session_id, user_id, input_tokens, cost, status, attributes ->> '$.\"trace.metadata.order_id\"' FROM spans WHERE model = 'openai/gpt-4o'"
    database = sqlite3.connect(path)
    assert database.execute(query).fetchall() == [
        ("Extract Order Details", "2026-09-29T12:00:00.010Z", 1000.0, "openai/gpt-4o", "openai", "session_abc", "user_12345", 100, 0.00075, "unset", "ORD-12345")
    ]  # fmt: skip
    database.close()


def test_trace_by_own_id_or_id_prefix_returns_its_spans(path: Path) -> None:
    store = destination(path).store
    store.write([*conversation(), span("Other", 9, trace_id="5b" + "0" * 30, attributes={})])
    assert len(store.trace("order_processing_001")) == 4
    assert len(store.trace(TRACE_ID[:6].upper())) == 4
    assert store.trace("5b") == []
    assert store.trace("") == []
    assert store.trace("%") == []


def test_traces_are_sorted_by_newest_with_sums(path: Path) -> None:
    store = Store(path)
    later = {semconv.SESSION_ID: "other"}
    store.write(
        [*conversation(), *(span(f"T{n}", n, trace_id=f"{n:032x}", at_ms=5000 * n, attributes=later) for n in (1, 2))]
    )
    assert [one.name for one in store.traces()] == ["T2", "T1", "Order Processing Pipeline"]
    assert [one.name for one in store.traces(limit=1)] == ["T2"]
    assert [one.name for one in store.traces(since_s=START_S + 6)] == ["T2"]
    (found,) = store.traces(session="session_abc")
    assert (found.trace_id, found.raw_trace_id, found.user_id) == (TRACE_ID, "order_processing_001", "user_12345")
    assert (found.spans, found.calls, found.errors) == (4, 2, 1)
    assert (found.input_tokens, found.output_tokens, found.cost) == (100, 50, 0.00075)
    assert not found.is_estimated
    estimate = {semconv.OPERATION_NAME: "chat", semconv.USAGE_COST: 0.002, semconv.COST_ESTIMATED: True}
    store.write([span("chat", 12, attributes=estimate, kind=3)])
    assert store.traces(session="session_abc")[0].is_estimated
    assert found.end_ns - found.start_ns == 1_400_000_000


def test_trace_is_open_until_its_groups_are_stored(path: Path) -> None:
    store = Store(path)
    for count, is_open in ((2, True), (3, True), (4, False)):
        store.write(conversation()[:count])
        assert [one.is_open for one in store.traces()] == [is_open]
    named = {**CALL, semconv.RAW_PARENT_SPAN_ID: "a span elsewhere"}
    store.write([span("chat", 1, 77, trace_id=f"{1:032x}", attributes=named)])
    assert not any(one.is_open for one in store.traces())


def test_traces_have_every_model_once(path: Path) -> None:
    names = ("a,b", "c", None, "a,b")
    calls = [
        span(f"call {number}", number, attributes={semconv.REQUEST_MODEL: name} if name else {})
        for number, name in enumerate(names, 1)
    ]
    destination(path).deliver(payload(calls), 1)
    [summary] = Store(path).traces()
    assert sorted(summary.models) == ["a,b", "c"]


def test_deliver_removes_old_spans_once_per_hour(path: Path) -> None:
    to = destination(path, START_S + 31 * 86_400)
    to.deliver(payload(), 1)
    assert to.store.traces() == []
    to.deliver(payload(), 1)
    assert len(to.store.traces()) == 1


def test_store_without_file_returns_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "none.db")
    assert (store.traces(), store.trace("x")) == ([], [])
    assert not store.path.exists()


def test_deliver_to_file_that_is_no_database_is_retried(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("no database" * 100)
    outcome = destination(path).deliver(payload(), 1)
    assert isinstance(outcome, Retry)
    assert str(path) in outcome.reason


def test_write_from_two_stores_keeps_all_spans(path: Path) -> None:
    one, other = Store(path), Store(path)
    for number in range(1, 20):
        one.write([span("a", number)])
        other.write([span("b", number + 100)])
    assert len(one.trace(TRACE_ID)) == 38


def test_default_store_path_follows_xdg_state_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_store_path() == Path("/state/spancast/spans.db")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_store_path() == Path.home() / ".local/state/spancast/spans.db"
