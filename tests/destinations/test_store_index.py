"""The index beside the store follows it: new, replaced and deleted spans, several processes, rowids used again."""

from __future__ import annotations

import dataclasses
import re
import sqlite3
import stat
from pathlib import Path

import pytest
from tests.destinations.spans import START_NS, conversation, span

from spancast.destinations import store_index
from spancast.destinations.span_store import Store
from spancast.destinations.store_index import HIT_END, HIT_START, Progress, StoreIndex, TraceQuery
from spancast.destinations.store_sums import MODEL, USER
from spancast.encoding.span_data import SpanData
from spancast.model import semconv
from spancast.model.json_codec import encode


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "spans.db")


@pytest.fixture
def index(store: Store) -> StoreIndex:
    return StoreIndex(store.path)


def call(number: int, question: str, answer: str = "yes", trace: int | None = None, **more: object) -> SpanData:
    """A call of its own trace, or of the trace with the number ``trace``."""
    attributes = {
        semconv.OPERATION_NAME: "chat",
        semconv.REQUEST_MODEL: "gpt-5.2",
        semconv.INPUT_MESSAGES: encode([{"role": "user", "parts": [{"type": "text", "content": question}]}]),
        semconv.OUTPUT_MESSAGES: encode([{"role": "assistant", "parts": [{"type": "text", "content": answer}]}]),
        **more,
    }
    made = span("chat", number + 1, trace_id=f"{number if trace is None else trace:032x}", attributes=attributes)
    return dataclasses.replace(made, start_ns=START_NS + number * 10**9, end_ns=START_NS + number * 10**9 + 10**8)


def found(index: StoreIndex, words: str) -> list[str | None]:
    return [row.question for row in index.traces(TraceQuery(words=words))]


def test_refresh_without_a_store_makes_no_file(index: StoreIndex) -> None:
    assert index.refresh() == Progress(0, 0)
    assert index.traces(TraceQuery()) == []
    assert not index.path.exists()


def test_index_file_is_readable_by_the_user_only(store: Store, index: StoreIndex) -> None:
    store.write(conversation())
    assert index.refresh() == Progress(len(conversation()), len(conversation()))
    assert stat.S_IMODE(index.path.stat().st_mode) == 0o600


def test_store_is_only_read(store: Store, index: StoreIndex) -> None:
    store.write(conversation())
    with sqlite3.connect(store.path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    before = store.path.read_bytes()
    index.refresh()
    assert store.path.read_bytes() == before


def test_span_that_is_delivered_again_replaces_its_entry(store: Store, index: StoreIndex) -> None:
    store.write([call(1, "first"), call(2, "other")])
    index.refresh()
    store.write([call(1, "second")])
    assert index.refresh() == Progress(2, 2)
    assert found(index, "first") == []
    assert found(index, "second") == ["second"]
    assert [row.spans for row in index.traces(TraceQuery())] == [1, 1]


def test_old_spans_follow_the_newest(store: Store, index: StoreIndex) -> None:
    store.write([call(number, f"question {number}") for number in range(1_200)])
    progress = index.refresh(0)
    assert 0 < progress.indexed < progress.total == 1_200
    assert found(index, '"question 1199"') == ["question 1199"]
    assert found(index, '"question 0"') == []
    store.write([call(1_300, "question 1300")])
    assert index.refresh() == Progress(1_201, 1_201)
    assert found(index, '"question 0"') == ["question 0"]
    assert found(index, '"question 1300"') == ["question 1300"]


def test_deleted_spans_leave_the_index(store: Store, index: StoreIndex) -> None:
    store.write([call(1, "keep"), call(2, "remove"), call(3, "old")])
    index.refresh()
    store.delete([f"{2:032x}"])
    assert found(index, "remove") == []
    store.forget(START_NS + 2 * 10**9)
    assert index.traces(TraceQuery())[0].question == "old"
    assert store.delete(None) == 1
    assert index.traces(TraceQuery()) == []
    # Words of deleted text remain in no page of the file.
    index.refresh(vanished=True)
    assert b"keep" not in index.path.read_bytes()


def test_rowid_that_is_used_again_is_another_span(store: Store, index: StoreIndex) -> None:
    store.write([call(1, "one"), call(2, "two")])
    index.refresh()
    with sqlite3.connect(store.path) as database:
        database.execute("DELETE FROM spans WHERE trace_id = ?", (f"{2:032x}",))
    database.close()
    store.write([call(3, "three")])
    assert index.refresh() == Progress(2, 2)
    assert found(index, "two") == []
    assert found(index, "three") == ["three"]


def test_store_that_is_replaced_is_read_again(store: Store, index: StoreIndex) -> None:
    store.write([call(number, "before") for number in range(5)])
    index.refresh()
    for path in store.path.parent.glob("spans.db*"):
        path.unlink()
    store.write([call(9, "after")])
    assert index.refresh(vanished=True) == Progress(1, 1)
    assert found(index, "before") == []


def test_two_processes_share_one_index(store: Store, index: StoreIndex) -> None:
    other = StoreIndex(store.path)
    store.write([call(1, "one")])
    index.refresh()
    store.write([call(2, "two")])
    other.refresh()
    store.write([call(3, "three")])
    assert index.refresh() == Progress(3, 3)
    assert len(other.traces(TraceQuery())) == 3


def test_damaged_or_older_index_is_made_again(store: Store, index: StoreIndex) -> None:
    store.write([call(1, "one")])
    index.refresh()
    with sqlite3.connect(index.path) as database:
        database.execute("UPDATE state SET version = 0")
    database.close()
    assert StoreIndex(store.path).refresh() == Progress(1, 1)
    assert found(index, "one") == ["one"]


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\0" + bytes(5_000)])
def test_file_that_is_no_index_is_replaced(store: Store, index: StoreIndex, content: bytes) -> None:
    index.path.write_bytes(content)
    store.write([call(1, "one")])
    assert index.refresh() == Progress(1, 1)
    assert found(index, "one") == ["one"]
    index.path.write_bytes(content)
    assert store.delete(None) == 1


def test_deletion_while_the_index_is_locked_is_done(
    store: Store, index: StoreIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_index, "_BUSY_S", 0.01)
    store.write([call(1, "one")])
    index.refresh()
    other = sqlite3.connect(index.path)
    other.execute("BEGIN IMMEDIATE")
    assert store.delete(None) == 1
    other.close()
    assert index.refresh(vanished=True) == Progress(0, 0)


def test_trace_row_has_first_question_and_last_answer(store: Store, index: StoreIndex) -> None:
    store.write(
        [
            call(1, "Where is\n my  order?", "billing", trace=7, **{semconv.USAGE_COST: 0.25}),
            call(2, "Rate it", "5/5", trace=7, **{semconv.USAGE_COST: 0.5, semconv.COST_SOURCE: "prices"}),
        ]
    )
    index.refresh()
    [row] = index.traces(TraceQuery())
    assert (row.question, row.answer, row.calls, row.cost, row.is_estimated) == (
        "Where is my order?",
        "5/5",
        2,
        0.75,
        True,
    )


@pytest.mark.parametrize(
    "words", ['"', '""', "AND", "NEAR(", "a* OR b", "text:x", "-x", "()", "*", "🙂", "%", "'; DROP TABLE"]
)
def test_search_words_are_no_query_language(store: Store, index: StoreIndex, words: str) -> None:
    store.write([call(1, "question")])
    index.refresh()
    assert index.traces(TraceQuery(words=words)) == []


def test_search_ignores_case_and_accents_and_finds_beginnings(store: Store, index: StoreIndex) -> None:
    store.write([call(1, "Où est ma Commande?")])
    index.refresh()
    assert found(index, "ou command") == ["Où est ma Commande?"]


def test_pages_of_a_list_have_each_trace_once(store: Store, index: StoreIndex) -> None:
    store.write([call(number, "same") for number in range(25)])
    # Each trace has an older hit, too.
    store.write([call(100 + number, "same", trace=number) for number in range(25)])
    index.refresh()
    for query in (
        TraceQuery(limit=10),
        TraceQuery(limit=10, words="same"),
        TraceQuery(limit=10, keys=[(MODEL, "gpt-5.2")]),
    ):
        seen: list[str] = []
        page = index.traces(query)
        while page:
            seen += [row.trace_id for row in page]
            page = index.traces(dataclasses.replace(query, before=page[-1].hit or page[-1].start_ns))
        assert sorted(seen) == [f"{number:032x}" for number in range(25)]


def test_totals_have_percentiles(store: Store, index: StoreIndex) -> None:
    store.write(
        [
            dataclasses.replace(call(number, "x"), end_ns=call(number, "x").start_ns + number * 10**6)
            for number in range(1, 101)
        ]
    )
    index.refresh()
    [sums] = index.totals(MODEL, 0)
    assert (sums.group, sums.calls, sums.p50_ms, sums.p95_ms) == ("gpt-5.2", 100, 51.0, 96.0)
    assert index.totals(MODEL, START_NS + 200 * 10**9) == []


def test_filters_that_few_pass_read_a_part_and_the_next_page_goes_on(
    store: Store, index: StoreIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_index, "_MAX_LISTED", 20)
    monkeypatch.setattr(store_index, "_MAX_HITS", 20)
    monkeypatch.setattr(store_index, "_FIRST_HITS", 10)
    monkeypatch.setattr(store_index, "_HITS", 10)
    store.write(
        [
            call(
                number,
                "same words",
                **{semconv.USER_ID: "u-1" if number % 2 else "u-2", semconv.USAGE_COST: number / 100},
            )
            for number in range(100)
        ]
    )
    index.refresh()
    wanted = [f"{number:032x}" for number in (5, 3, 1)]
    # With few traces of the user, and with many.
    for few in (500, 0):
        monkeypatch.setattr(store_index, "_FEW", few)
        monkeypatch.setattr(store_index, "_SOME", few)
        for words in ("", "same"):
            seen: list[str] = []
            pages, before = 0, None
            while pages == 0 or before is not None:
                query = TraceQuery(
                    words=words, keys=[(USER, "u-1"), (MODEL, "gpt-5.2")], until_ns=START_NS + 6 * 10**9, limit=2
                )
                rows, before = index.page(dataclasses.replace(query, before=before))
                seen += [row.trace_id for row in rows]
                pages += 1
            assert seen == wanted
            # The hits of few traces are found without reading others.
            assert pages == 2 if few and words else pages > 2


def test_search_for_a_word_that_one_text_has_many_times_shows_its_beginning(store: Store, index: StoreIndex) -> None:
    store.write([call(number, "word " * 12_000 + f"end{number}") for number in range(10)])
    index.refresh()
    # With FTS5's `snippet` 14 s, with `highlight` 0.4.
    rows = index.traces(TraceQuery(words="word"))
    assert len(rows) == 10
    assert rows[0].found.startswith(f"chat {HIT_START}word{HIT_END} {HIT_START}word{HIT_END}")


def test_found_text_has_the_words_around_the_hit(store: Store, index: StoreIndex) -> None:
    store.write([call(1, f"{'before ' * 50}needle{' after' * 50}")])
    index.refresh()
    [row] = index.traces(TraceQuery(words="needle"))
    assert re.fullmatch(f"…(before )+{HIT_START}needle{HIT_END}( after)+ ?\\w*…", row.found)
    assert len(row.found) < 200


def test_call_with_thousands_of_keys_is_indexed_with_a_hundred(store: Store, index: StoreIndex) -> None:
    keys = {f"{semconv.TRACE_METADATA}k{number}": "v" * 100 for number in range(5_000)}
    store.write([call(1, "many keys", **keys)])
    index.refresh()
    [row] = index.traces(TraceQuery())
    assert len(row.keys) == 100
