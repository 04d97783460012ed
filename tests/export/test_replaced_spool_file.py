"""The spool's file is removed, replaced or damaged under a running process.

Sequences of the new file are those of the old one, given to other records: no payload, no
acknowledgement and no count may be taken from one for the other.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.destinations.otlp_receiver import OtlpReceiver, Reply, ok, status
from tests.export.pipelines import call, otlp, pipeline_to, tracing
from tests.export.spool_records import START_S, Clock, deliver, numbers, records, take

from spancast.diagnostics import Count, counters
from spancast.export import delivery_worker as worker_module
from spancast.export.pipeline import ExportPipeline
from spancast.export.spool.directory import SPOOL_FILE
from spancast.export.spool.disk import SqliteSpool

PATIENCE_S = 30.0
CallIds = tuple[str, str]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(worker_module, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(worker_module, "BATCH_DELAY_S", 0.01)
    counters.clear()
    yield
    counters.clear()


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


def files(path: Path) -> list[Path]:
    return [file for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))) if file.exists()]


def copied(path: Path, directory: Path) -> Path:
    """Copy the spool at ``path``, its log included, into ``directory``."""
    directory.mkdir()
    copy = directory / path.name
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def remove(path: Path, _: Path) -> None:
    for file in files(path):
        file.unlink()


def remove_the_main_file(path: Path, _: Path) -> None:
    path.unlink()


def put_the_copy_there(path: Path, copy: Path) -> None:
    remove(path, copy)
    copy.rename(path)


def put_the_copy_over_it(path: Path, copy: Path) -> None:
    """The log of the former file stays beside the copy."""
    copy.replace(path)


WAYS: list[Callable[[Path, Path], None]] = [remove, remove_the_main_file, put_the_copy_there, put_the_copy_over_it]


def held(code: int) -> Reply:
    """Answer with ``code`` after ``receiver.release()``."""
    return replace(status(code), fault="hold")


def made(pipeline: ExportPipeline, count: int) -> list[CallIds]:
    with tracing(pipeline) as tracer:
        return [call(tracer, number) for number in range(count)]


def arrived(receiver: OtlpReceiver, spans: list[CallIds]) -> list[int]:
    """Return how often each of ``spans`` arrived."""
    counts = Counter(receiver.spans)
    return [counts[span] for span in spans]


@pytest.mark.parametrize("way", WAYS)
def test_replaced_file_new_spans_arrive_once(
    way: Callable[[Path, Path], None], receiver: OtlpReceiver, tmp_path: Path
) -> None:
    path = tmp_path / "queue" / SPOOL_FILE
    pipeline = pipeline_to({"one": otlp(receiver.url)}, path.parent)
    first = made(pipeline, 5)
    assert pipeline.flush(PATIENCE_S)
    copy = copied(path, tmp_path / "copy")
    second = made(pipeline, 5)
    assert pipeline.flush(PATIENCE_S)
    way(path, copy)
    for _ in range(3):
        third = made(pipeline, 5)
        report = pipeline.flush(PATIENCE_S)
        assert report, str(report)
        assert arrived(receiver, third) == [1] * 5
    assert arrived(receiver, first + second) == [1] * 10
    pipeline.shutdown()


def test_quarantined_file_new_spans_arrive(receiver: OtlpReceiver, tmp_path: Path) -> None:
    path = tmp_path / SPOOL_FILE
    pipeline = pipeline_to({"one": otlp(receiver.url)}, tmp_path)
    first = made(pipeline, 5)
    assert pipeline.flush(PATIENCE_S)
    pipeline.spool._pause()  # type: ignore[attr-defined] - else the file's pages are in memory
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)
    second = made(pipeline, 5)
    assert pipeline.flush(PATIENCE_S)
    assert counters.read()[Count("spool_corrupt_files")] == 1
    assert arrived(receiver, first + second) == [1] * 10
    pipeline.shutdown()


@pytest.mark.parametrize("way", WAYS)
def test_removed_file_queued_spans_are_counted(
    way: Callable[[Path, Path], None],
    receiver: OtlpReceiver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "queue" / SPOOL_FILE
    pipeline = pipeline_to({"one": otlp(receiver.url), "two": otlp(receiver.url, sampling_rate=0.5)}, path.parent)
    pipeline.flush(PATIENCE_S)
    copy = copied(path, tmp_path / "copy")
    receiver.answer_with(status(503))
    lost = made(pipeline, 40)
    waiting = {name: one.queued for name, one in pipeline.flush(0.5).destinations.items()}
    assert waiting["one"] == 40 > waiting["two"] > 0
    receiver.answer_with(ok())
    way(path, copy)
    later = made(pipeline, 3)
    report = pipeline.flush(PATIENCE_S)
    assert not report
    assert {name: one.dropped for name, one in report.destinations.items()} == waiting
    assert {name: counters.read()[Count("dropped", name, "spool_replaced")] for name in waiting} == waiting
    assert "was removed or replaced while it was in use; 40 records queued for one are dropped" in caplog.text
    assert arrived(receiver, lost) == [0] * 40
    assert all(arrived(receiver, later))
    assert pipeline.flush(PATIENCE_S)
    pipeline.shutdown()


@pytest.mark.parametrize(("code", "lost"), [(200, 0), (503, 5)])
def test_removed_file_batch_in_delivery_is_delivered_or_counted(
    code: int, lost: int, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    receiver.answer_with(held(code), ok())
    pipeline = pipeline_to({"one": otlp(receiver.url, timeout=20)}, tmp_path)
    under_way = made(pipeline, 5)
    pipeline.flush(0.01)
    assert receiver.wait_for(lambda: len(receiver.requests) == 1)
    remove(tmp_path / SPOOL_FILE, tmp_path)
    later = made(pipeline, 3)
    assert pipeline.span_queue.flush(PATIENCE_S)
    receiver.release()
    assert receiver.wait_for(lambda: all(arrived(receiver, later)))
    pipeline.flush(PATIENCE_S)
    assert counters.read()[Count("dropped", "one", "spool_replaced")] == lost
    assert counters.read()[Count("delivered", "one")] == 8 - lost
    assert arrived(receiver, under_way) == [0 if lost else 1] * 5
    assert arrived(receiver, later) == [1] * 3
    pipeline.shutdown()


def test_removed_file_remaining_halves_are_counted(
    receiver: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_EXTEND_AFTER_S", -1.0)
    receiver.answer_with(held(413), ok())
    pipeline = pipeline_to({"one": otlp(receiver.url, timeout=20)}, tmp_path)
    made(pipeline, 5)
    pipeline.flush(0.01)
    assert receiver.wait_for(lambda: len(receiver.requests) == 1)
    remove(tmp_path / SPOOL_FILE, tmp_path)
    receiver.release()
    pipeline.flush(PATIENCE_S)
    assert (len(receiver.requests), receiver.spans) == (1, [])
    assert counters.read()[Count("dropped", "one", "spool_replaced")] == 5
    pipeline.shutdown()


def opened(path: Path, clock: Clock) -> SqliteSpool:
    spool = SqliteSpool(path, max_bytes=1 << 28, max_age_s=1e12, clock=clock)
    spool.register(["a"])
    return spool


def test_lease_of_file_changes_nothing_in_a_copy(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "queue" / SPOOL_FILE
    spool = opened(path, clock)
    spool.put(records(range(3)), {})
    assert deliver(spool, "a") == [0, 1, 2]
    copy = copied(path, tmp_path / "copy")
    spool.put(records(range(3, 6)), {})
    lease = take(spool, "a")
    assert lease is not None
    put_the_copy_there(path, copy)
    spool.put(records(range(10, 13)), {})
    assert not spool.extend(lease, START_S)
    spool.ack(lease)
    spool.dead_letter(lease, [lease.entries[0].sequence], "400")
    assert spool.dead_letters() == []
    assert numbers(take(spool, "a")) == [10, 11, 12]
    spool.close()


def test_replacement_file_records_are_delivered(tmp_path: Path, clock: Clock) -> None:
    path, other = tmp_path / "queue" / SPOOL_FILE, tmp_path / "other" / SPOOL_FILE
    prepared = opened(other, clock)
    prepared.put(records(range(20, 24)), {})
    prepared.close()
    spool = opened(path, clock)
    spool.put(records(range(9)), {})
    put_the_copy_over_it(path, other)
    spool.put(records(range(30, 32)), {})
    assert deliver(spool, "a") == [20, 21, 22, 23, 30, 31]
    assert counters.read()[Count("dropped", "a", "spool_replaced")] == 9
    spool.close()


def test_quarantined_file_each_process_counts_its_known_records(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / SPOOL_FILE
    first, second = opened(path, clock), opened(path, clock)
    first.put(records(range(9)), {})
    second.put(records(range(20, 23)), {})
    first._quarantine(sqlite3.DatabaseError("found by the first"))
    first.put(records([30]), {})
    assert counters.read()[Count("dropped", "a", "spool_damaged")] == 9
    second.put(records([31]), {})
    assert counters.read()[Count("dropped", "a", "spool_replaced")] == 3
    assert deliver(second, "a") == [30, 31]
    first.close()
    second.close()


def emptied(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(0)


def zeroed(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)


@pytest.mark.parametrize("damage", [emptied, zeroed])
def test_flush_is_false_if_spans_waited_in_a_file_that_was_damaged(
    damage: Callable[[Path], None], receiver: OtlpReceiver, tmp_path: Path
) -> None:
    path = tmp_path / SPOOL_FILE
    pipeline = pipeline_to({"one": otlp(receiver.url)}, tmp_path)
    receiver.answer_with(status(503))
    made(pipeline, 200)
    assert pipeline.flush(0.5).destinations["one"].queued == 200
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(path)
    receiver.answer_with(ok())
    made(pipeline, 5)
    report = pipeline.flush(PATIENCE_S)
    one = report.destinations["one"]
    assert not report
    assert (one.delivered + one.dropped, one.queued) == (205, 0)
    assert one.dropped >= 200
    later = made(pipeline, 5)
    assert pipeline.flush(PATIENCE_S)
    assert arrived(receiver, later) == [1] * 5
    pipeline.shutdown()
