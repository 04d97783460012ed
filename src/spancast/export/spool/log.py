"""A spool on one SQLite connection: transactions and locks around the tables.

``disk.SqliteSpool`` uses it on a file and ``memory.MemorySpool`` in memory. Methods raise ``sqlite3.Error`` if the
connection fails.
"""
# ruff: noqa: D102 - the contract of every method is in ``protocol.Spool``

from __future__ import annotations

import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from spancast.diagnostics import counters
from spancast.export import fork_hooks
from spancast.export.spool import sqlite_history, sqlite_limits
from spancast.export.spool.lease_owner import LeaseOwner
from spancast.export.spool.own_records import OWN_RECORDS
from spancast.export.spool.protocol import (
    DeadLetter,
    Entry,
    Lease,
    QueueStats,
    RecordHistory,
    Spool,
    SpoolUsage,
    counted_as,
)
from spancast.export.spool.sqlite_history import (
    LAST,
    LEASE_S,
    Extent,
    Extents,
    Range,
    Route,
    add_skipped,
    find_route,
    last_sequence,
    open_route,
    sequences_in,
    sequences_waiting,
    set_state,
)
from spancast.export.spool.sqlite_limits import EvictionResult, LimitEnforcer, Limits
from spancast.export.spool.sqlite_records import BatchReader, SpanRow, append, parts, read_spans, storable
from spancast.export.spool.sqlite_schema import pragma
from spancast.model.span_record import SpanRecord

NO_STATE: Final = QueueStats(queued=0, queued_bytes=0, dead_lettered=0, attempts=0, due_s=0.0, last_error="")
_RECENT_BYTES: Final = 32 << 20
"""Memory for recent batches: for a slow route, reading a batch from the file takes ten times as long as sending it."""
_NS: Final = 1_000_000_000
_PURGED: Final = "purged"
_DROPS: Final = ("spool_full", "expired", _PURGED)
_DAMAGED: Final = "its bytes on disk were damaged"

_SETTLE: Final = """
    UPDATE routes SET cursor = max(cursor, :cursor), delivered = delivered + :delivered, dropped = dropped - :undropped,
        last_delivered_s = CASE WHEN :delivered THEN :at_s ELSE last_delivered_s END,
        lease = CASE WHEN :is_over THEN '' ELSE lease END,
        attempts = CASE WHEN :is_held THEN 0 ELSE attempts END,
        due_s = CASE WHEN :is_held THEN 0 ELSE due_s END,
        last_error = CASE WHEN :is_held THEN '' ELSE last_error END
    WHERE id = :route"""
_RETRY: Final = """
    UPDATE routes SET attempts = attempts + 1, due_s = ?, last_error = ?, lease = '', lease_until_s = ?
    WHERE name = ? AND lease = ?"""
_RELEASE: Final = "UPDATE routes SET lease = '' WHERE substr(lease, 1, ?) = ?"
_STORED: Final = """
    SELECT first, last, spans FROM batches
    WHERE first > max(:after, (SELECT evicted FROM spool)) AND first <= :end AND size > 0
    AND (:trace_id IS NULL OR instr(spans, :trace_id)) ORDER BY first"""
_WITH_TRACE: Final = """
    SELECT first FROM batches WHERE first >= ifnull((SELECT max(first) FROM batches WHERE first <= ?), 0) AND first <= ?
    AND size > 0 AND instr(spans, ?) ORDER BY first"""
_STEP_RECORDS: Final = 1024
"""Records per transaction of a replay; other threads use the spool in between."""


class Replay:
    """A replay and how far it has come. Arguments as for ``Spool.replay``."""

    def __init__(  # noqa: PLR0913, PLR0917 - those of ``Spool.replay``
        self,
        route: str,
        since_s: float,
        until_s: float,
        trace_id: bytes | None,
        waiting_for: str | None,
        evaluate: Callable[[SpanRecord], str | None] | None,
    ) -> None:
        self.route = route
        self.since_ns, self.until_ns = since_s * _NS, until_s * _NS
        self.trace_id = trace_id
        self.waiting_for = waiting_for
        self.evaluate = evaluate
        self.after = 0
        self.is_begun = self.is_done = False

    def run(self, step: Callable[[Replay], int | None], on_step: Callable[[], object] | None) -> int:
        """Call ``step`` until nothing is left, or until it returns None; return how many records were queued."""
        count = 0
        while not self.is_done and (queued := step(self)) is not None:
            count += queued
            if on_step is not None:
                on_step()
        return count

    def begin(self, end: int, queued: Iterable[Extent], wanted: Iterable[Extent] | None) -> None:
        """Set the last sequence, and what is ``queued`` now: it may be delivered before the replay comes to it."""
        self.end = end
        self._queued = Extents(queued)
        self._wanted = None if wanted is None else Extents(wanted)
        self.is_begun = True

    def wants(self, sequence: int, span: SpanRow) -> bool:
        """Return whether a record is to be sent again, if the filter takes it."""
        return bool(
            span.size
            and self.since_ns <= span.end_ns < self.until_ns
            and self.trace_id in (None, span.trace_id)
            and sequence not in self._queued
            and (self._wanted is None or sequence in self._wanted)
        )


class SpoolLog(Spool):
    """A ``Spool`` on one connection, safe for threads.

    At most one lease per route exists, over all processes, so that the batches of a destination are in order. ``known``
    counts, per route of this process, the records known to be queued; they are lost if the file is lost. ``file``
    identifies the file.
    """

    def __init__(  # noqa: PLR0913 - parts of a spool, each with its name
        self,
        connection: sqlite3.Connection,
        limits: Limits,
        clock: Callable[[], float] = time.time,
        *,
        owner: LeaseOwner | None = None,
        known: defaultdict[str, int] | None = None,
        file: str = "",
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._file = file
        self._owner = owner or LeaseOwner()
        self._lock = threading.RLock()
        self._own_routes: dict[str, int] | None = None
        self.known: defaultdict[str, int] = defaultdict(int) if known is None else known
        self._start(connection)

    def _start(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._reader = BatchReader(_RECENT_BYTES)
        self._enforcer = LimitEnforcer(self._limits)
        self._done_until: dict[str, int] = {}
        self._has_deleted_content = False
        (spool,) = connection.execute("SELECT id FROM spool").fetchone()
        # The file is part of the id: a copy of a spool gives the same new sequences to other records.
        self.id = f"{spool}@{self._file}"

    def owns(self, lease: Lease) -> bool:
        """Return whether ``lease`` was leased from this log, and not from an earlier file at the same path."""
        return lease.log == self.id

    def counted_as(self, route: str) -> str:
        """Return the name for counters of ``route`` in this process."""
        return counted_as(route, self._own_routes)

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection, None, None]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # After some errors, such as a full disk, SQLite has rolled back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def register(self, routes: Sequence[str]) -> None:
        with self._writing() as connection:
            self._own_routes = {name: open_route(connection, name).id for name in routes}
            self._done_until = dict.fromkeys(routes, 0)

    def put(self, records: Sequence[SpanRecord], skipped: Mapping[str, Mapping[int, str]]) -> int:
        if not records:
            return 0
        now_s = self._clock()
        ids = None if self._own_routes is None else sorted(self._own_routes.values())
        meant = None if ids is None else f",{','.join(map(str, ids))},"
        with self._writing() as connection:
            numbers = {name: open_route(connection, name).id for name in skipped}
            first = start = last_sequence(connection) + 1
            connection.execute("UPDATE spool SET next = ?", (first + len(records),))
            batches: list[tuple[int, Sequence[SpanRecord]]] = []
            for part in parts(records, self._limits.batch_bytes):
                append(connection, part, start, now_s, meant)
                batches.append((start, part))
                start += len(part)
            for name, reasons in skipped.items():
                add_skipped(connection, numbers[name], first, reasons, {one for one, _ in batches})
            content_bytes = sum([len(record.body) for record in records])
            evicted = self._enforcer.after_put(connection, content_bytes, len(records), now_s)
        with self._lock:
            for start, part in batches:
                self._reader.remember(start, part)
            for name in self._own_routes or ():
                self.known[name] += len(records) - len(skipped.get(name, ()))
                if self._file:
                    OWN_RECORDS.add(self.id, name, first, first + len(records) - 1)
        return self._count(evicted)

    def _count(self, evicted: EvictionResult) -> int:
        for (route, _), count in evicted.counts.items():
            self._subtract_known(route, count)
            self._has_deleted_content = True
            self._note_drops(route)
        self._forget_batches(evicted.forgotten)
        return evicted.count(self._own_routes)

    def _subtract_known(self, route: str, count: int) -> None:
        self.known[route] = max(self.known[route] - count, 0)

    def lease(
        self, route: str, *, max_records: int, max_bytes: int, now_s: float, is_early: bool = False
    ) -> Lease | None:
        def is_free(known: Route) -> bool:
            return not known.is_leased(now_s) and (is_early or not known.must_wait(now_s))

        with self._lock:
            known = find_route(self._connection, route)
            # A read without a write lock first: most calls find nothing to lease.
            if known and not (is_free(known) and self._has_work(known)):
                self._maintain()
                return None
            with self._writing() as connection:
                found = open_route(connection, route)
                return self._lease_next(connection, found, max_records, max_bytes, now_s) if is_free(found) else None

    def _has_work(self, route: Route) -> bool:
        return route.cursor < last_sequence(self._connection) or bool(
            sqlite_history.count(self._connection, route.id, "waiting")
        )

    def _maintain(self) -> None:
        """Enforce the limits if due, while there is nothing to deliver."""
        if self._own_routes is not None and self._enforcer.is_due(self._clock()):
            self.enforce_limits()
            for name in self._own_routes:
                # What is counted is forgotten: a process whose statistics are never read keeps no list of it.
                self.count_others(name)
        self._truncate()

    def _truncate(self) -> None:
        """Remove deleted content from the write-ahead log, unless another process reads it now."""
        with self._lock:
            if self._has_deleted_content:
                timeout_ms = pragma(self._connection, "busy_timeout")
                self._connection.execute("PRAGMA busy_timeout = 0")
                (is_busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._connection.execute(f"PRAGMA busy_timeout = {timeout_ms}")
                self._has_deleted_content = bool(is_busy)

    def _lease_next(
        self, connection: sqlite3.Connection, route: Route, max_records: int, max_bytes: int, now_s: float
    ) -> Lease | None:
        name = route.name
        kinds = ((sqlite_history.replayed, True), (sqlite_history.queued, False))
        is_logs_turn = route.attempts > 0 and route.attempts % 2 == 0
        for ranges, is_replay in kinds[::-1] if is_logs_turn else kinds:
            entries = self._entries(connection, route, ranges, max_records, max_bytes)
            if entries:
                lease = self._owner.new_lease()
                connection.execute(
                    "UPDATE routes SET lease = ?, lease_until_s = ?, lease_end = ? WHERE id = ?",
                    (lease, now_s + LEASE_S, entries[-1].sequence, route.id),
                )
                self._subtract_known(name, len(entries))
                return Lease(name, entries, route.attempts, lease, is_replay, self.id)
        self.known[name] = 0
        end = last_sequence(connection)
        # The cursor moves to the end, so that skipped records are not scanned again.
        connection.execute("UPDATE routes SET cursor = max(cursor, ?) WHERE id = ?", (end, route.id))
        self._mark_done(connection, name, route.cursor + 1, end)
        return None

    def _entries(
        self,
        connection: sqlite3.Connection,
        route: Route,
        ranges: Callable[[sqlite3.Connection, Route], Iterator[Range]],
        max_records: int,
        max_bytes: int,
    ) -> tuple[Entry, ...]:
        """Return the next entries of ``ranges``; records with damaged bytes are dead-lettered."""
        found: list[Entry] = []
        unreadable: list[int] = []
        total = 0
        for one in ranges(connection, route):
            batch = self._reader.read(connection, one.batch)
            for sequence, entry in enumerate(batch.between(one.first, one.last), one.first):
                if entry is None:
                    unreadable.append(sequence)
                    continue
                total += len(entry.record.body)
                if found and (len(found) == max_records or total > max_bytes):
                    break
                found.append(entry)
            else:
                continue
            break
        if unreadable:
            damaged = sqlite_history.extents(connection, unreadable)
            set_state(connection, route.id, damaged, "buried", _DAMAGED, self._clock())
            # This process has found them, and counts them as damaged.
            OWN_RECORDS.settle(self.id, route.name, unreadable)
        return tuple(found)

    def extend(self, lease: Lease, now_s: float) -> bool:
        with self._writing() as connection:
            statement = "UPDATE routes SET lease_until_s = ? WHERE name = ? AND lease = ?"
            return connection.execute(statement, (now_s + LEASE_S, lease.route, lease.name)).rowcount > 0

    def ack(self, lease: Lease) -> None:
        self.dead_letter(lease, (), "")

    def dead_letter(self, lease: Lease, sequences: Sequence[int], reason: str) -> None:
        if not lease.entries or not self.owns(lease):
            return
        rejected = set(sequences)
        delivered = [entry.sequence for entry in lease.entries if entry.sequence not in rejected]
        buried = [entry.sequence for entry in lease.entries if entry.sequence in rejected]
        first, last = lease.entries[0].sequence, lease.entries[-1].sequence
        at_s = self._clock()
        with self._writing() as connection:
            route = open_route(connection, lease.route)
            # Records that were evicted during the delivery were counted as dropped, but are delivered.
            undropped = set_state(connection, route.id, sqlite_history.runs(delivered), "delivered", "", at_s)
            rejections = sqlite_history.extents(connection, buried)
            undropped += set_state(connection, route.id, rejections, "buried", storable(reason), at_s)
            is_held = route.lease == lease.name
            values = {
                "route": route.id,
                "cursor": 0 if lease.is_replay else last,
                "delivered": len(delivered),
                "undropped": undropped,
                "at_s": at_s,
                "is_held": is_held,
                "is_over": is_held and last >= route.lease_end,
            }
            connection.execute(_SETTLE, values)
            # Records before the first one may have been settled out of order.
            begin = first if lease.is_replay else min(first, route.cursor + 1)
            self._mark_done(connection, lease.route, begin, last, is_replay=lease.is_replay)
        self._note_settled(lease, delivered, buried)

    def settle(self, lease: Lease, delivered: Sequence[int], rejected: Mapping[int, str]) -> None:
        if not self.owns(lease):
            return
        at_s = self._clock()
        with self._writing() as connection:
            route = open_route(connection, lease.route).id
            undropped = set_state(connection, route, sqlite_history.runs(delivered), "delivered", "", at_s)
            for sequence, reason in rejected.items():
                undropped += set_state(connection, route, [(sequence, sequence)], "buried", storable(reason), at_s)
            values = {"delivered": len(delivered), "undropped": undropped, "at_s": at_s, "route": route}
            connection.execute(_SETTLE, {**values, "cursor": 0, "is_held": False, "is_over": False})
            if self._limits.keep_delivered_s <= 0:
                settled = (*delivered, *rejected)
                ends = min(settled, default=0), max(settled, default=0)
                self._forget_batches(sqlite_limits.forget_delivered(connection, at_s, *ends))
        self._note_settled(lease, delivered, list(rejected))

    def _note_settled(self, lease: Lease, delivered: Sequence[int], buried: Sequence[int]) -> None:
        others = len(delivered) - OWN_RECORDS.settle(self.id, lease.route, delivered)
        OWN_RECORDS.settle(self.id, lease.route, buried)
        if self._file and others and not lease.is_replay:
            counters.add("delivered_for_others", others, destination=self.counted_as(lease.route))

    def has_queued(self, route: str) -> bool:
        with self._lock:
            row = find_route(self._connection, route)
            return row is not None and any(True for _ in sqlite_history.waiting(self._connection, row))

    def due_s(self, route: str) -> float:
        with self._lock:
            row = find_route(self._connection, route)
            return row.due_s if row is not None and row.must_wait(self._clock()) else 0.0

    def count_others(self, route: str) -> None:
        with self._lock:
            row = find_route(self._connection, route)
            if row is not None:
                self._note_gone(row, sqlite_history.waiting(self._connection, row))

    def _note_gone(self, route: Route, waiting: Iterable[Range], *, drops_counted: bool = False) -> None:
        """Count what another process did with records of this one: those that are not ``waiting`` any more.

        With ``drops_counted`` this process has dropped some, and counted them.
        """
        is_own = self._file and route.name in (self._own_routes or ())
        if not is_own or not OWN_RECORDS.has_any(self.id, route.name):
            return
        name = self.counted_as(route.name)
        for first, last in OWN_RECORDS.keep(self.id, route.name, [(one.first, one.last) for one in waiting]):
            delivered = last - first + 1
            for state, reason, count in sqlite_history.states_in(self._connection, route, first, last):
                if state != "delivered":
                    delivered -= count
                if state == "buried":
                    counters.add("dead_lettered", count, destination=name)
                elif state == "dropped" and not drops_counted:
                    counters.add("dropped", count, destination=name, reason=reason if reason in _DROPS else "evicted")
            for counter in ("delivered", "delivered_by_others") if delivered else ():
                counters.add(counter, delivered, destination=name)

    def _note_drops(self, name: str) -> None:
        """Forget the records of this process that it has dropped, which are counted."""
        with self._lock:
            route = find_route(self._connection, name)
            if route is not None:
                self._note_gone(route, sqlite_history.waiting(self._connection, route), drops_counted=True)

    def _mark_done(
        self, connection: sqlite3.Connection, route: str, first: int, last: int, *, is_replay: bool = False
    ) -> None:
        """Record that ``route`` is done with [first, last]; release batches that every route is done with."""
        if self._limits.keep_delivered_s <= 0:
            self._forget_batches(sqlite_limits.forget_delivered(connection, self._clock(), first, last))
        if route in self._done_until and not is_replay:
            self._done_until[route] = last
            self._reader.forget_until(min(self._done_until.values()))

    def _forget_batches(self, batches: Sequence[int]) -> None:
        for first in batches:
            self._reader.forget(first)
            self._has_deleted_content = True

    def nack(self, lease: Lease, due_s: float, reason: str) -> None:
        with self._writing() as connection:
            values = (due_s, storable(reason), self._clock(), lease.route, lease.name)
            changed = connection.execute(_RETRY, values)
            if changed.rowcount:
                self.known[lease.route] += len(lease.entries)

    def state(self, route: str) -> QueueStats:
        with self._lock:
            row = find_route(self._connection, route)
            if row is None:
                return NO_STATE
            queued, queued_bytes = sqlite_history.queue_size(self._connection, row)
            return QueueStats(
                queued=queued,
                queued_bytes=queued_bytes,
                dead_lettered=sqlite_history.count(self._connection, row.id, "buried"),
                attempts=row.attempts,
                due_s=row.due_s if row.must_wait(self._clock()) else 0.0,
                last_error=row.last_error,
                delivered=row.delivered,
                dropped=row.dropped,
                last_delivered_s=row.last_delivered_s,
            )

    def dead_letters(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        with self._lock:
            return sqlite_history.listed(self._connection, "buried", route, limit)

    def dropped(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        with self._lock:
            return sqlite_history.listed(self._connection, "dropped", route, limit)

    def routes(self) -> list[str]:
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
        on_step: Callable[[], object] | None = None,
    ) -> int:
        return Replay(route, since_s, until_s, trace_id, waiting_for, evaluate).run(self.replay_step, on_step)

    def replay_step(self, replay: Replay) -> int:
        """Queue the next records of ``replay``; return how many."""
        if not replay.is_begun:
            self._begin_replay(replay)
        with self._lock:
            route = open_route(self._connection, replay.route)
            batches = self._next_stored(replay)
            first, last = (batches[0][0], batches[-1][1]) if batches else (0, 0)
            is_filtered = replay.evaluate is not None
            skipped = set[int]() if is_filtered else sequences_in(self._connection, route, "skipped", first, last)
            wanted = [
                [
                    sequence
                    for sequence, span in enumerate(read_spans(index), begin)
                    if replay.wants(sequence, span) and sequence not in skipped
                ]
                for begin, _, index in batches
            ]
            read = [
                self._reader.read(self._connection, begin).between(begin, end) if sequences and is_filtered else ()
                for (begin, end, _), sequences in zip(batches, wanted, strict=True)
            ]
        refused: dict[int, str] = {}
        if replay.evaluate is not None:
            # Without the lock: filters may be slow.
            for number, entries in enumerate(read):
                known = set(wanted[number])
                wanted[number] = []
                for entry in entries:
                    if entry is None or entry.sequence not in known:
                        continue
                    reason = replay.evaluate(entry.record)
                    if reason is None:
                        wanted[number].append(entry.sequence)
                    else:
                        refused[entry.sequence] = storable(reason)
        count = sum(map(len, wanted))
        if count or refused:
            with self._writing() as connection:
                for sequences in wanted:
                    set_state(connection, route.id, sqlite_history.runs(sequences), "waiting")
                for sequence, reason in refused.items():
                    set_state(connection, route.id, [(sequence, sequence)], "skipped", reason)
                self.known[replay.route] += count
        replay.after, replay.is_done = last, not batches
        return count

    def _begin_replay(self, replay: Replay) -> None:
        with self._writing() as connection:
            routes = [open_route(connection, name) for name in (replay.route, replay.waiting_for) if name]
            queued, *wanted = (
                [(one.first, one.last) for one in sqlite_history.waiting(connection, route)] for route in routes
            )
            replay.begin(last_sequence(connection), queued, wanted[0] if wanted else None)

    def _next_stored(self, replay: Replay) -> list[tuple[int, int, bytes]]:
        values = {"after": replay.after, "end": replay.end, "trace_id": replay.trace_id}
        found: list[tuple[int, int, bytes]] = []
        count = 0
        for first, last, index in self._connection.execute(_STORED, values):
            found.append((first, last, index))
            count += last - first + 1
            if count >= _STEP_RECORDS:
                break
        return found

    def requeue(self, route: str, sequences: Sequence[int] | None = None) -> int:
        with self._writing() as connection:
            row = open_route(connection, route)
            wanted = sorted(sequences_in(connection, row, "buried"))
            if sequences is not None:
                wanted = sorted(set(wanted).intersection(sequences))
            set_state(connection, row.id, sqlite_history.extents(connection, wanted), "waiting")
            self.known[route] += len(wanted)
        return len(wanted)

    def purge(self, route: str, sequences: Sequence[int] | None = None) -> int:
        with self._writing() as connection:
            row = open_route(connection, route)
            known = sequences_waiting(connection, row)
            if sequences is not None:
                known |= sequences_in(connection, row, "buried")
                known &= set(sequences)
            purged = sqlite_history.extents(connection, sorted(known))
            set_state(connection, row.id, purged, "dropped", _PURGED, self._clock())
            connection.execute("UPDATE routes SET dropped = dropped + ? WHERE id = ?", (len(known), row.id))
            if sequences is None:
                statement = (
                    "UPDATE routes SET cursor = ?, attempts = 0, due_s = 0, last_error = '', lease = '' WHERE id = ?"
                )
                connection.execute(statement, (last_sequence(connection), row.id))
        if known:
            self._subtract_known(route, len(known))
            counters.add("dropped", len(known), destination=self.counted_as(route), reason=_PURGED)
            self._note_drops(route)
        return len(known)

    def history(self, trace_id: bytes) -> list[RecordHistory]:
        with self._lock:
            return sqlite_history.history(self._connection, trace_id)

    def records(self, trace_id: bytes, history: Sequence[RecordHistory] = ()) -> list[SpanRecord]:
        first, last = (history[0].sequence, history[-1].sequence) if history else (0, LAST)
        with self._lock:
            batches = [one for (one,) in self._connection.execute(_WITH_TRACE, (first, last, trace_id))]
            found = [entry for first in batches for entry in self._reader.read(self._connection, first).entries]
        return [entry.record for entry in found if entry and entry.record.trace_id == trace_id]

    def enforce_limits(self) -> int:
        with self._writing() as connection:
            evicted = self._enforcer.enforce_limits(connection, self._clock())
        dropped = self._count(evicted)
        self._truncate()
        return dropped

    def location(self) -> tuple[str, str]:
        with self._lock:
            return sqlite_limits.path_of(self._connection), ""

    def usage(self) -> SpoolUsage:
        with self._lock:
            return sqlite_limits.usage(self._connection)

    def release(self) -> None:
        """Release the leases of this process."""
        with self._lock:
            self._connection.execute(_RELEASE, (len(self._owner.prefix), self._owner.prefix))

    def leak(self) -> None:
        """Keep the connection open without using it, because it was inherited by a fork."""
        fork_hooks.leak(self._connection)

    def close(self) -> None:
        with self._lock:
            try:
                self.release()
                self._truncate()
            finally:
                self._connection.close()
