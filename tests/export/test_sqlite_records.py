"""What is at hand of the log: until every route has had it, and no longer."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tests.export.spool_records import deliver, record, records, take

from spancast.export.spool import sqlite_records
from spancast.export.spool.disk import SqliteSpool
from spancast.export.spool.protocol import Entry
from spancast.export.spool.sqlite_records import RecordReader


def entries(*sequences: int) -> list[Entry]:
    return [Entry(sequence, record(sequence)) for sequence in sequences]


def at_hand(reader: RecordReader, after: int) -> list[int]:
    return [entry.sequence for entry in reader.run(after, 100, 1 << 20).entries]


def test_what_everybody_has_had_is_let_go() -> None:
    reader = RecordReader(1 << 20)
    reader.remember(entries(1, 2, 3, 4))
    reader.forget(2)
    assert at_hand(reader, 2) == [3, 4]
    assert at_hand(reader, 0) == []
    reader.forget(9)
    assert at_hand(reader, 2) == []


def test_room_is_made_by_it() -> None:
    # Room for three, whatever their objects are counted with.
    one = record(0).size_bytes + sqlite_records._OBJECT_BYTES
    reader = RecordReader(3 * one)
    for first in (1, 4, 7):
        reader.remember(entries(first, first + 1, first + 2))
        assert at_hand(reader, first - 1) == [first, first + 1, first + 2]
        reader.forget(first + 2)


def test_the_slowest_route_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_disk: list[int] = []
    forgotten: list[int] = []
    read, forget = RecordReader._from_disk, RecordReader.forget
    monkeypatch.setattr(
        RecordReader,
        "_from_disk",
        lambda self, connection, those: from_disk.extend(those) or read(self, connection, those),
    )
    monkeypatch.setattr(RecordReader, "forget", lambda self, last: forgotten.append(last) or forget(self, last))
    with closing(SqliteSpool(tmp_path / "spool.db", max_bytes=1 << 28, max_age_s=1e12)) as spool:
        spool.register(["fast", "slow"])
        for round_ in range(3):
            spool.put(records(range(3 * round_, 3 * round_ + 3)), {})
            assert len(deliver(spool, "fast")) == 3
        assert not any(forgotten), "the other one has had nothing yet"
        claim = take(spool, "slow", most=4)
        assert claim is not None
        spool.ack(claim)
        assert forgotten[-1] == claim.entries[-1].sequence
        assert len(deliver(spool, "slow")) == 5
        assert not from_disk


def test_what_a_route_refused_it_has_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[int] = []
    forget = RecordReader.forget
    monkeypatch.setattr(RecordReader, "forget", lambda self, last: forgotten.append(last) or forget(self, last))
    with closing(SqliteSpool(tmp_path / "spool.db", max_bytes=1 << 28, max_age_s=1e12)) as spool:
        spool.register(["only"])
        spool.put(records(range(3)), {})
        claim = take(spool, "only")
        assert claim is not None
        last = claim.entries[-1].sequence
        spool.bury(claim, [last], "not liked")
        assert forgotten == [last]


def test_what_a_route_skipped_it_has_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[int] = []
    forget = RecordReader.forget
    monkeypatch.setattr(RecordReader, "forget", lambda self, last: forgotten.append(last) or forget(self, last))
    with closing(SqliteSpool(tmp_path / "spool.db", max_bytes=1 << 28, max_age_s=1e12)) as spool:
        spool.register(["takes", "skips"])
        spool.put(records(range(3)), {"skips": dict.fromkeys(range(3), "filtered")})
        assert len(deliver(spool, "takes")) == 3
        assert not any(forgotten)
        assert take(spool, "skips") is None
        assert forgotten[-1] == 3
