"""The cache of batches: a batch is kept until every route is done with it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.export.spool_records import deliver, record, records, take

from spancast.export.spool import sqlite_records
from spancast.export.spool.disk import SqliteSpool
from spancast.export.spool.sqlite_records import BatchReader


def in_memory(reader: BatchReader) -> list[int]:
    return list(reader._recent)


def of_spool(spool: SqliteSpool) -> list[int]:
    assert spool._log is not None
    return in_memory(spool._log._reader)


def test_batch_delivered_to_every_route_is_released() -> None:
    reader = BatchReader(1 << 20)
    for first in (1, 3, 5):
        reader.remember(first, records(range(first, first + 2)))
    reader.forget_until(4)
    assert in_memory(reader) == [5]
    reader.forget_until(9)
    assert (in_memory(reader), reader._recent_bytes) == ([], 0)


def test_memory_is_bounded_and_the_oldest_batch_is_released() -> None:
    reader = BatchReader(3 * (record(0).size_bytes + sqlite_records._OBJECT_BYTES))
    for number in range(1, 9):
        reader.remember(number, [record(number)])
    assert in_memory(reader) == [6, 7, 8]


def test_batch_is_kept_until_slowest_route_is_done(tmp_path: Path) -> None:
    with closing(SqliteSpool(tmp_path / "spool.db", max_bytes=1 << 28, max_age_s=1e12)) as spool:
        spool.register(["fast", "slow"])
        for start in range(0, 9, 3):
            spool.put(records(range(start, start + 3)), {})
            assert len(deliver(spool, "fast")) == 3
        assert of_spool(spool) == [1, 4, 7]
        lease = take(spool, "slow", most=4)
        assert lease is not None
        spool.ack(lease)
        assert of_spool(spool) == [4, 7]
        assert len(deliver(spool, "slow")) == 5
        assert of_spool(spool) == []


def test_dead_lettered_and_skipped_batches_are_released(tmp_path: Path) -> None:
    with closing(SqliteSpool(tmp_path / "spool.db", max_bytes=1 << 28, max_age_s=1e12)) as spool:
        spool.register(["refuses", "skips"])
        spool.put(records(range(3)), {"skips": dict.fromkeys(range(3), "filtered")})
        lease = take(spool, "refuses")
        assert lease is not None
        spool.dead_letter(lease, [lease.entries[-1].sequence], "400")
        assert of_spool(spool) == [1]
        assert take(spool, "skips") is None
        assert of_spool(spool) == []
