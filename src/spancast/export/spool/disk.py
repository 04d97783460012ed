"""The spool on disk: survives ``kill -9``, shared by processes, and lets none of the disk's trouble through.

Must never: raise into the pipeline for what a disk does, or lose a record without counting it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from spancast.diagnostics import counters, logger
from spancast.export import fork_hooks
from spancast.export.spool.lease_owner import LeaseOwner
from spancast.export.spool.log import SpoolLog
from spancast.export.spool.memory import give_up, memory_bounds
from spancast.export.spool.protocol import DeadLetter, Lease, QueueStats, RecordHistory, SpoolUsage, counted_as
from spancast.export.spool.sqlite_connection import Disk, SpoolUnavailable
from spancast.export.spool.sqlite_file import SpoolFile
from spancast.export.spool.sqlite_limits import Limits
from spancast.export.spool.sqlite_schema import connect_memory
from spancast.model.span_record import SpanRecord

R = TypeVar("R")

_OVERFLOW_BYTES = 64 << 20
# Sequences in memory never meet those on disk, so that a list of both can be worked on.
_FIRST_IN_MEMORY = 1 << 62
_NOTHING = QueueStats(waiting=0, waiting_bytes=0, buried=0, attempts=0, due_s=0.0, last_error="")


class SqliteSpool:
    """``spool.SpoolAdmin`` in the file ``path``, mode 0600, for any number of threads and processes.

    SQLite in WAL mode with ``synchronous=NORMAL``: what ``put`` returned for survives the end of
    the process, ``kill -9`` included. It survives the loss of power up to the last checkpoint
    (every 8 MB or so); after that the file is older, not damaged.

    ``max_bytes`` bounds the pages in use, within one ``put``; the write-ahead log adds 8 to 16 MB. Of processes
    that share the file, each may take up to an eighth of the room there was when it last looked before it looks again.
    Records stay after delivery until they are over a bound, oldest first; those that still
    waited are counted in ``dropped.<name>.spool_full`` and ``.spool_age`` and told once.

    While the file cannot be used (full, read-only, locked for ``busy_timeout_s``, no
    permission), records are kept and delivered in memory, ``overflow_bytes`` at most, and
    return to the file when it can be used again. A damaged file is set aside as
    ``<name>.damaged-<time>`` and what still waited in it is saved as far as it can be read.
    Only the constructor raises: ConfigError where ``path`` is a newer spancast's or another program's.

    Sharing the file, processes share the routes: a record may be delivered by another process
    that has the same route (a destination of the same name that sends to the same place), with that
    process's settings.
    """

    def __init__(  # noqa: PLR0913 - bounds, each with its name
        self,
        path: str | Path,
        *,
        max_bytes: int,
        max_age_s: float,
        clock: Callable[[], float] = time.time,
        overflow_bytes: int = _OVERFLOW_BYTES,
        busy_timeout_s: float = 5.0,
    ) -> None:
        self._bounds = Limits(max_bytes=max_bytes, keep_bytes=max_bytes, max_age_s=max_age_s)
        self._overflow_bounds = memory_bounds(min(overflow_bytes, max_bytes), max_age_s)
        self._clock = clock
        self._lock = threading.RLock()
        self._is_held = False
        self._owner = LeaseOwner()
        self._routes: tuple[str, ...] | None = None
        self._file = SpoolFile(Path(path).expanduser(), busy_timeout_s)
        self._disk = Disk(self._file, self._log_on, self._leave, clock)
        self._overflow: SpoolLog | None = None
        self._has_overflow = False
        self._is_closed = False
        self._owed: list[Callable[[SpoolLog], object]] = []
        self._disk.check()
        fork_hooks.watch(self)

    def register(self, routes: Sequence[str]) -> None:
        """Do what ``Spool.register`` says."""
        with self._lock:
            self._routes = tuple(routes)
            if self._overflow is not None:
                self._overflow.register(routes)
            self._on_disk(lambda log: log.register(routes), None)

    def put(self, records: Sequence[SpanRecord], skipped: Mapping[str, Mapping[int, str]]) -> int:
        """Do what ``Spool.put`` says."""
        with self._lock:
            try:
                return self._use(lambda log: log.put(records, skipped))
            except SpoolUnavailable:
                if self._is_closed:
                    counters.add("dropped.spool_closed", len(records))
                    return len(records)
                counters.add("spool.memory_fallback", len(records))
                self._has_overflow = True
                return self._in_memory().put(records, skipped)

    def claim(self, route: str, *, max_records: int, max_bytes: int, now_s: float) -> Lease | None:
        """Do what ``Spool.claim`` says; from memory only while the disk cannot be used."""
        with self._lock:
            try:
                return self._use(lambda log: _claim(log, route, max_records, max_bytes, now_s))
            except SpoolUnavailable:
                return self._overflow and _claim(self._overflow, route, max_records, max_bytes, now_s)

    def renew(self, claim: Lease, now_s: float) -> bool:
        """Do what ``Spool.renew`` says; False also while the disk cannot be used."""
        with self._lock:
            if self._overflow is not None and self._overflow.made(claim):
                return self._overflow.renew(claim, now_s)
            return self._on_disk(lambda log: log.renew(claim, now_s), otherwise=False)

    def ack(self, claim: Lease) -> None:
        """Do what ``Spool.ack`` says."""
        self._settle(claim, lambda log: log.ack(claim))

    def nack(self, claim: Lease, due_s: float, reason: str) -> None:
        """Do what ``Spool.nack`` says."""
        self._settle(claim, lambda log: self._give_back(log, claim, due_s, reason))

    def bury(self, claim: Lease, sequences: Sequence[int], reason: str) -> None:
        """Do what ``Spool.bury`` says."""
        self._settle(claim, lambda log: log.bury(claim, sequences, reason))

    def state(self, route: str) -> QueueStats:
        """Do what ``Spool.state`` says."""
        disk, memory = self._on_both(lambda log: log.state(route), _NOTHING)
        return _sum(disk, memory)

    def buried(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """Do what ``Spool.buried`` says."""
        return _newest(self._on_both(lambda log: log.buried(route, limit), []), limit)

    def dropped(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """Do what ``SpoolAdmin.dropped`` says."""
        return _newest(self._on_both(lambda log: log.dropped(route, limit), []), limit)

    def routes(self) -> list[str]:
        """Do what ``SpoolAdmin.routes`` says."""
        disk, memory = self._on_both(SpoolLog.routes, [])
        return list(dict.fromkeys(disk + memory))

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
        return sum(
            self._on_both(
                lambda log: log.replay(
                    route, since_s, until_s, trace_id=trace_id, waiting_for=waiting_for, evaluate=evaluate
                ),
                0,
            )
        )

    def requeue(self, route: str, sequences: Sequence[int] | None = None) -> int:
        """Do what ``SpoolAdmin.requeue`` says."""
        return sum(self._on_both(lambda log: log.requeue(route, sequences), 0))

    def drop(self, route: str, sequences: Sequence[int] | None = None) -> int:
        """Do what ``SpoolAdmin.drop`` says."""
        return sum(self._on_both(lambda log: log.drop(route, sequences), 0))

    def find(self, trace_id: bytes) -> list[RecordHistory]:
        """Do what ``SpoolAdmin.find`` says."""
        disk, memory = self._on_both(lambda log: log.find(trace_id), [])
        return disk + memory

    def records(self, trace_id: bytes) -> list[SpanRecord]:
        """Do what ``SpoolAdmin.records`` says."""
        disk, memory = self._on_both(lambda log: log.records(trace_id), [])
        return disk + memory

    def enforce_limits(self) -> int:
        """Do what ``SpoolAdmin.enforce_limits`` says."""
        return sum(self._on_both(SpoolLog.enforce_limits, 0))

    def size(self) -> SpoolUsage:
        """Do what ``SpoolAdmin.size`` says."""
        empty = SpoolUsage(str(self._disk.path), records=0, bytes_on_disk=0, bytes_used=0, oldest_s=0.0)
        disk, memory = self._on_both(SpoolLog.size, empty)
        return replace(disk, overflow=memory.records if self._has_overflow else 0, trouble=self._disk.trouble)

    def close(self) -> None:
        """Do what ``Spool.close`` says; what waits in memory is brought to disk, or counted as dropped."""
        with self._lock:
            if self._overflow is not None:
                self._overflow.release()
                self._disk.hurry()
                self._on_disk(lambda _: None, None)
                give_up(self._overflow)
                self._overflow.close()
                self._overflow = None
            self._is_closed = True
            self._disk.close()

    def before_fork(self) -> None:
        """Close the file: SQLite must not be carried into another process."""
        self._is_held = self._lock.acquire(timeout=fork_hooks.PATIENCE_S)
        if self._is_held:
            self._disk.pause()

    def after_fork_in_parent(self) -> None:
        """Go on; the file is opened again when it is needed."""
        if self._is_held:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin with nothing in hand: leases, acknowledgements owed and records in memory are the parent's."""
        self._lock = threading.RLock()
        self._owner = LeaseOwner()
        self._owed.clear()
        if self._overflow is not None:
            self._overflow.abandon()
        self._overflow = None
        self._has_overflow = False
        self._disk.begin_in_child()

    def _log_on(self, connection: sqlite3.Connection, file: str) -> SpoolLog:
        log = SpoolLog(connection, self._bounds, self._clock, self._owner, file)
        if self._routes is not None:
            log.register(self._routes)
        return log

    def _leave(self, log: SpoolLog) -> None:
        # A damaged file is set aside with its records saved, by this process or by another.
        if not self._file.is_set_aside(self._file.identity):
            for route, count in log.lost().items():
                self._lose(route, count)

    def _give_back(self, log: SpoolLog, claim: Lease, due_s: float, reason: str) -> None:
        if log.made(claim):
            log.nack(claim, due_s, reason)
        elif not self._file.is_set_aside(claim.log.partition("@")[2]):
            self._lose(claim.route, len(claim.entries))

    def _lose(self, route: str, count: int) -> None:
        if count:
            name = counted_as(route, self._routes)
            counters.add(f"dropped.{name}.spool_replaced", count)
            logger.warning(
                "spancast: the spool %s was removed or replaced while it was in use; %d records that waited for %s are"
                " dropped",
                self._file.path,
                count,
                name,
            )

    def _in_memory(self) -> SpoolLog:
        if self._overflow is None:
            self._overflow = SpoolLog(connect_memory(_FIRST_IN_MEMORY), self._overflow_bounds, self._clock)
            if self._routes is not None:
                self._overflow.register(self._routes)
        return self._overflow

    def _use(self, operation: Callable[[SpoolLog], R]) -> R:
        return self._disk.use(lambda log: operation(self._up_to_date(log)))

    def _on_disk(self, operation: Callable[[SpoolLog], R], otherwise: R) -> R:
        with self._lock:
            try:
                return self._use(operation)
            except SpoolUnavailable:
                return otherwise

    def _on_both(self, operation: Callable[[SpoolLog], R], otherwise: R) -> tuple[R, R]:
        with self._lock:
            disk = self._on_disk(operation, otherwise)
            return disk, otherwise if self._overflow is None else operation(self._overflow)

    def _settle(self, claim: Lease, operation: Callable[[SpoolLog], object]) -> None:
        with self._lock:
            if self._overflow is not None and self._overflow.made(claim):
                operation(self._overflow)
                return
            try:
                self._use(operation)
            except SpoolUnavailable:
                # One claim per route is out, so this stays short.
                self._owed.append(operation)

    def _up_to_date(self, log: SpoolLog) -> SpoolLog:
        while self._owed:
            self._owed[0](log)
            self._owed.pop(0)
        if self._has_overflow and self._overflow is not None and not self._overflow.is_leased(self._clock()):
            moved = 0
            for chunk in self._overflow.pending_records():
                log.adopt(chunk)
                self._overflow.forget(chunk)
                moved += len(chunk)
            self._has_overflow = False
            counters.add("spool.recovered", moved)
            logger.info("spancast: %d records went from memory to the spool", moved)
        return log


def _claim(log: SpoolLog, route: str, max_records: int, max_bytes: int, now_s: float) -> Lease | None:
    return log.claim(route, max_records=max_records, max_bytes=max_bytes, now_s=now_s)


def _newest(lists: tuple[list[DeadLetter], list[DeadLetter]], limit: int) -> list[DeadLetter]:
    return sorted(chain(*lists), key=lambda item: (item.at_s, item.sequence), reverse=True)[:limit]


def _sum(disk: QueueStats, memory: QueueStats) -> QueueStats:
    return QueueStats(
        waiting=disk.waiting + memory.waiting,
        waiting_bytes=disk.waiting_bytes + memory.waiting_bytes,
        buried=disk.buried + memory.buried,
        attempts=max(disk.attempts, memory.attempts),
        due_s=max(disk.due_s, memory.due_s),
        last_error=disk.last_error or memory.last_error,
        delivered=disk.delivered + memory.delivered,
        dropped=disk.dropped + memory.dropped,
        last_delivered_s=max(disk.last_delivered_s, memory.last_delivered_s),
    )
