"""A spool on one SQLite connection: transactions and locking around the tables.

``sqlite_spool`` and ``memory_spool`` are this on a file and in memory. It raises
``sqlite3.Error`` where the connection fails.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

from spancast.diagnostics import counters, warn_once
from spancast.export import fork_hooks
from spancast.export.spool import sqlite_cursors, sqlite_history, sqlite_limits, sqlite_recovery, sqlite_replay
from spancast.export.spool.lease_owner import LeaseOwner
from spancast.export.spool.protocol import DeadLetter, Entry, Lease, QueueStats, RecordHistory, SpoolUsage, counted_as
from spancast.export.spool.sqlite_limits import LimitEnforcer, Limits
from spancast.export.spool.sqlite_records import RecordReader, append, last_sequence, without_content
from spancast.export.spool.sqlite_recovery import PendingRecord
from spancast.model.span_record import SpanRecord

LEASE_S = 30.0
_RECENT_BYTES = 32 << 20
"""For the slowest of many routes: reading what it has lost sight of costs it ten times the sending."""
_REPLAY_CHUNK = 1000
_DAMAGED = "its bytes on disk were damaged"


class SpoolLog:
    """All of ``spool.SpoolAdmin`` on one connection, safe for threads.

    One claim per route is out at a time, over all processes: batches of one destination are
    in order, and two of one process never wait for each other's retry.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        bounds: Limits,
        clock: Callable[[], float] = time.time,
        owner: LeaseOwner | None = None,
        file: str = "",
    ) -> None:
        self._bounds = bounds
        self._clock = clock
        self._file = file
        self._owner = owner or LeaseOwner()
        self._lock = threading.RLock()
        self._audience: tuple[str, ...] | None = None
        self._start(connection)

    def _start(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._reader = RecordReader(_RECENT_BYTES)
        self._sweeper = LimitEnforcer(self._bounds)
        self._passed: dict[str, int] = {}
        (spool,) = connection.execute("SELECT spool FROM counter").fetchone()
        # With the file: a copy of a spool gives the sequences after the copy to other records.
        self._log = f"{spool}@{self._file}"

    def made(self, claim: Lease) -> bool:
        """Tell whether ``claim`` was leased from this log, and not from a file that was here before."""
        return claim.log == self._log

    def counted_as(self, route: str) -> str:
        """Return ``spool.counted_as`` of ``route`` here."""
        return counted_as(route, self._audience)

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection, None, None]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors, a full disk among them.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def register(self, routes: Sequence[str]) -> None:
        """Do what ``Spool.register`` says."""
        with self._writing() as connection:
            for name in routes:
                sqlite_cursors.open_route(connection, name)
            self._audience = tuple(sorted(routes))
            self._passed = dict.fromkeys(routes, 0)

    def put(self, records: Sequence[SpanRecord], skipped: Mapping[str, Mapping[int, str]]) -> int:
        """Do what ``Spool.put`` says."""
        if not records:
            return 0
        kept = [without_content(record) for record in records]
        now_s = self._clock()
        with self._writing() as connection:
            routes = {name: sqlite_cursors.open_route(connection, name).id for name in skipped}
            audience = None if self._audience is None else sqlite_cursors.open_audience(connection, self._audience)
            first = append(connection, kept, [now_s] * len(kept), audience)
            for name, reasons in skipped.items():
                sqlite_cursors.skip(connection, routes[name], {first + index: why for index, why in reasons.items()})
            evicted = self._sweeper.after(connection, kept, now_s)
        with self._lock:
            self._reader.remember([Entry(sequence, record) for sequence, record in enumerate(kept, first)])
        return sqlite_limits.tell(evicted, self._audience)

    def claim(self, route: str, *, max_records: int, max_bytes: int, now_s: float) -> Lease | None:
        """Do what ``Spool.claim`` says."""
        with self._lock:
            known = sqlite_cursors.find_route(self._connection, route)
            # Asked without a lock on the file first: couriers ask often and mostly in vain.
            if known and not (known.is_free(now_s) and sqlite_cursors.has_work(self._connection, known)):
                return None
            with self._writing() as connection:
                return self._lease(connection, route, max_records, max_bytes, now_s)

    def _lease(
        self, connection: sqlite3.Connection, name: str, max_records: int, max_bytes: int, now_s: float
    ) -> Lease | None:
        route = sqlite_cursors.open_route(connection, name)
        if not route.is_free(now_s):
            return None
        entries, is_replay = self._at_hand(connection, route, max_records, max_bytes), False
        if not entries:
            entries, is_replay = self._looked_up(connection, route, max_records, max_bytes)
        if not entries:
            return None
        lease = self._owner.new_lease()
        sqlite_cursors.lease(connection, route, lease, now_s + LEASE_S, entries[-1].sequence)
        return Lease(name, entries, route.attempts, lease, is_replay, self._log)

    def _at_hand(
        self, connection: sqlite3.Connection, route: sqlite_cursors.Route, max_records: int, max_bytes: int
    ) -> tuple[Entry, ...]:
        """Return what is next for ``route`` where it is in memory and nothing before it is not for it."""
        entries, is_full = self._reader.run(route.cursor, max_records, max_bytes)
        if not entries or not (is_full or entries[-1].sequence == last_sequence(connection)):
            return ()
        return entries if sqlite_cursors.is_next(connection, route, entries[-1].sequence, len(entries)) else ()

    def _looked_up(
        self, connection: sqlite3.Connection, route: sqlite_cursors.Route, max_records: int, max_bytes: int
    ) -> tuple[tuple[Entry, ...], bool]:
        sequences, is_replay = sqlite_cursors.next_sequences(connection, route, max_records, max_bytes)
        if not sequences:
            end = last_sequence(connection)
            sqlite_cursors.move_cursor(connection, route, end)
            self._pass(route.name, end)
            return (), False
        if not is_replay:
            sqlite_cursors.move_cursor(connection, route, sequences[0] - 1)
        entries = self._reader.read(connection, sequences)
        if len(entries) < len(sequences):
            self._bury_unreadable(connection, route.id, set(sequences) - {entry.sequence for entry in entries})
        return entries, is_replay

    def _bury_unreadable(self, connection: sqlite3.Connection, route: int, sequences: set[int]) -> None:
        sqlite_replay.bury_unreadable(connection, route, sorted(sequences), _DAMAGED, self._clock())
        counters.add("spool.corrupt_records", len(sequences))
        warn_once("spool:damaged_records", "spancast: records in the spool are damaged; they are listed as refused")

    def renew(self, claim: Lease, now_s: float) -> bool:
        """Do what ``Spool.renew`` says."""
        with self._writing() as connection:
            return sqlite_cursors.renew(connection, claim, now_s + LEASE_S)

    def ack(self, claim: Lease) -> None:
        """Do what ``Spool.ack`` says."""
        if claim.entries and self.made(claim):
            with self._writing() as connection:
                sqlite_cursors.settle(connection, claim, len(claim.entries), self._clock())
                self._pass_claim(claim)

    def _pass_claim(self, claim: Lease) -> None:
        if not claim.is_replay:
            self._pass(claim.route, claim.entries[-1].sequence)

    def _pass(self, route: str, last: int) -> None:
        """Note that ``route`` is done with all up to ``last``, and let go of what every route is done with."""
        if route in self._passed:
            self._passed[route] = last
            self._reader.forget(min(self._passed.values()))

    def nack(self, claim: Lease, due_s: float, reason: str) -> None:
        """Do what ``Spool.nack`` says."""
        with self._writing() as connection:
            sqlite_cursors.nack(connection, claim, due_s, reason)

    def bury(self, claim: Lease, sequences: Sequence[int], reason: str) -> None:
        """Do what ``Spool.bury`` says."""
        if not claim.entries or not self.made(claim):
            return
        refused = set(sequences)
        with self._writing() as connection:
            count = sqlite_replay.bury(connection, claim, refused, reason, self._clock())
            sqlite_cursors.settle(connection, claim, len(claim.entries) - count, self._clock())
            self._pass_claim(claim)

    def state(self, route: str) -> QueueStats:
        """Do what ``Spool.state`` says."""
        with self._lock:
            return sqlite_cursors.state(self._connection, route)

    def buried(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """Do what ``Spool.buried`` says."""
        with self._lock:
            return sqlite_history.buried(self._connection, route, limit)

    def dropped(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """Do what ``SpoolAdmin.dropped`` says."""
        with self._lock:
            return sqlite_history.dropped(self._connection, route, limit)

    def routes(self) -> list[str]:
        """Do what ``SpoolAdmin.routes`` says."""
        with self._lock:
            return [name for (name,) in self._connection.execute("SELECT name FROM routes ORDER BY id")]

    def replay(  # noqa: PLR0913 - limits, each with its name
        self,
        route: str,
        since_s: float,
        until_s: float,
        *,
        trace_id: bytes | None = None,
        waiting_for: str | None = None,
        evaluate: Callable[[SpanRecord], str | None] | None = None,
    ) -> int:
        """Do what ``SpoolAdmin.replay`` says."""
        with self._writing() as connection:
            number = sqlite_cursors.open_route(connection, route).id
            end = last_sequence(connection)
            other = waiting_for and sqlite_cursors.open_route(connection, waiting_for).id
        limits: dict[str, object] = {
            "route": number,
            "end": end,
            "since_ns": sqlite_replay.nanoseconds(since_s),
            "until_ns": sqlite_replay.nanoseconds(until_s),
            "trace_id": trace_id,
            "other": other,
            "judged": evaluate is not None,
            "limit": _REPLAY_CHUNK,
        }
        count = 0
        after = 0
        while True:
            with self._lock:
                sequences = sqlite_replay.replayable(self._connection, {**limits, "after": after})
                entries = self._reader.read(self._connection, sequences) if evaluate and sequences else ()
            if not sequences:
                return count
            after = sequences[-1]
            count += self._replay_judged(number, sequences, entries, evaluate)

    def _replay_judged(
        self,
        route: int,
        sequences: Sequence[int],
        entries: Sequence[Entry],
        evaluate: Callable[[SpanRecord], str | None] | None,
    ) -> int:
        taken = list(sequences)
        refused: dict[int, str] = {}
        if evaluate is not None:
            verdicts = {entry.sequence: evaluate(entry.record) for entry in entries}
            taken = [sequence for sequence, verdict in verdicts.items() if verdict is None]
            refused = {sequence: verdict for sequence, verdict in verdicts.items() if verdict is not None}
        with self._writing() as connection:
            sqlite_replay.replay(connection, route, taken)
            sqlite_cursors.skip(connection, route, refused)
        return len(taken)

    def requeue(self, route: str, sequences: Sequence[int] | None = None) -> int:
        """Do what ``SpoolAdmin.requeue`` says."""
        with self._writing() as connection:
            return sqlite_replay.requeue(connection, route, sequences)

    def drop(self, route: str, sequences: Sequence[int] | None = None) -> int:
        """Do what ``SpoolAdmin.drop`` says."""
        with self._writing() as connection:
            if sequences is not None:
                count = sqlite_replay.drop_some(connection, route, sequences, self._clock())
            else:
                count = sqlite_cursors.state(connection, route).waiting
                sqlite_replay.drop_all(connection, route, last_sequence(connection), count, self._clock())
        if count:
            counters.add(f"dropped.{self.counted_as(route)}.by_hand", count)
        return count

    def find(self, trace_id: bytes) -> list[RecordHistory]:
        """Do what ``SpoolAdmin.find`` says."""
        with self._lock:
            return sqlite_history.find(self._connection, trace_id)

    def records(self, trace_id: bytes) -> list[SpanRecord]:
        """Do what ``SpoolAdmin.records`` says."""
        with self._lock:
            entries = self._reader.read(self._connection, sqlite_history.sequences(self._connection, trace_id))
        return [entry.record for entry in entries]

    def enforce_limits(self) -> int:
        """Do what ``SpoolAdmin.enforce_limits`` says."""
        with self._writing() as connection:
            evicted = sqlite_limits.enforce_limits(connection, self._bounds, self._clock())
        return sqlite_limits.tell(evicted, self._audience)

    def size(self) -> SpoolUsage:
        """Do what ``SpoolAdmin.size`` says."""
        with self._lock:
            return sqlite_limits.size(self._connection)

    def is_leased(self, now_s: float) -> bool:
        """Tell whether a claim is out."""
        with self._lock:
            return sqlite_cursors.is_leased(self._connection, now_s)

    def pending_records(self) -> Iterator[list[PendingRecord]]:
        """Yield what still waits, oldest first, in chunks; nothing else may use the spool meanwhile."""
        return sqlite_recovery.pending_records(self._connection)

    def adopt(self, chunk: Sequence[PendingRecord]) -> None:
        """Append records of another spool with what became of them there."""
        with self._writing() as connection:
            sqlite_recovery.adopt(connection, chunk)
        self._sweeper.hurry()

    def forget(self, chunk: Sequence[PendingRecord]) -> None:
        """Remove records that went to another spool."""
        with self._writing() as connection:
            sqlite_recovery.forget(connection, chunk)

    def lost(self) -> dict[str, int]:
        """Return how many records wait per route if no process can deliver them from here any more.

        Without those leased here: their outcome is still to come.
        """
        with self._lock:
            return sqlite_cursors.waiting_unleased(self._connection, self._owner.prefix)

    def release(self) -> None:
        """Give back the leases made here."""
        with self._lock:
            sqlite_cursors.release_all(self._connection, self._owner.prefix)

    def abandon(self) -> None:
        """Leave the connection untouched: it was inherited by a fork."""
        fork_hooks.abandon(self._connection)

    def close(self) -> None:
        """Do what ``Spool.close`` says."""
        with self._lock:
            try:
                self.release()
            finally:
                self._connection.close()
