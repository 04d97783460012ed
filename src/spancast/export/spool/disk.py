"""The spool on disk: survives ``kill -9``, is shared by processes, and falls back to memory if the disk fails.

Invariants (``tests/export/test_disk_spool.py``): no method except the constructor raises an error of the disk; no
record is lost without being counted.
"""
# ruff: noqa: D102 - the contract of every method is in ``protocol.Spool``

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from spancast.diagnostics import counters, logger, warn_once
from spancast.errors import ConfigError
from spancast.export import fork_hooks
from spancast.export.spool.lease_owner import LeaseOwner
from spancast.export.spool.log import NO_STATE, Replay, SpoolLog
from spancast.export.spool.memory import count_dropped, memory_limits
from spancast.export.spool.protocol import DeadLetter, Lease, QueueStats, RecordHistory, Spool, SpoolUsage, counted_as
from spancast.export.spool.sqlite_file import SpoolFile
from spancast.export.spool.sqlite_limits import Limits
from spancast.export.spool.sqlite_schema import connect_memory, is_sound
from spancast.model.span_record import SpanRecord

R = TypeVar("R")

_OVERFLOW_BYTES: Final = 64 << 20
# Sequences in memory differ from those on disk, so that both can be in one list.
_FIRST_IN_MEMORY: Final = 1 << 62
_LONGEST_PAUSE_S: Final = 30.0
_ATTEMPT_S: Final = 0.05
"""How long SQLite waits in one attempt; meanwhile other threads wait for the lock of the spool."""
_SHORT_S: Final = 1.0
_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# Compared by exact type, because subclasses mean other errors: SQLITE_CORRUPT and SQLITE_NOTADB have no own class.
_DAMAGE: Final = (sqlite3.DatabaseError, sqlite3.InternalError, sqlite3.IntegrityError)
_OF_VALUES: Final = (TypeError, ValueError, ArithmeticError, LookupError, struct.error)
"""What our own code raises for a value in a damaged row; also for a record that can't be stored."""
_LOSS_MESSAGES: Final = {
    "spool_replaced": "spancast: the spool %s was removed or replaced while it was in use; %d records queued"
    " for %s are dropped",
    "spool_damaged": "spancast: the spool %s was damaged; %d records queued for %s are dropped",
}


class SpoolUnavailable(Exception):  # noqa: N818 - a state, caught in this file
    """The file cannot be used now."""


class SqliteSpool(Spool):
    """A ``Spool`` in the file ``path``, mode 0600, for any number of threads and processes.

    SQLite in WAL mode with ``synchronous=NORMAL``: what ``put`` accepted survives the end of the process, ``kill -9``
    included. It survives the loss of power up to the last checkpoint (every 8 MB or so); after that the file is older,
    not damaged.

    ``max_bytes`` limits the pages in use, within one ``put``; the write-ahead log adds 8 to 16 MB. If several processes
    share the file, each checks its size again after it has used an eighth of the free room it saw at the last check.
    Records stay after delivery, their content for ``keep_delivered_s``, and are evicted over a limit, oldest first.
    Evicted records that were queued count as dropped (``spool_full`` or ``expired``) and are logged once.

    While the file cannot be used (full, read-only, locked for ``busy_timeout_s``, no permission), records are queued in
    memory and delivered from there, at most ``overflow_bytes``. A damaged file is renamed to
    ``<name>.damaged-<time>`` and a new file is used. The records known to be queued in the damaged file count as
    dropped (``spool_damaged``).

    Processes that share the file share the routes: a record may be delivered by another process that has the same route
    (a destination of the same name, address and account), with that process's settings.

    Raises:
        ConfigError: ``path`` was written by a newer version or by another program; only the constructor raises.
    """

    def __init__(  # noqa: PLR0913 - bounds, each with its name
        self,
        path: str | Path,
        *,
        max_bytes: int,
        max_age_s: float,
        keep_delivered_s: float = math.inf,
        clock: Callable[[], float] = time.time,
        overflow_bytes: int = _OVERFLOW_BYTES,
        busy_timeout_s: float = 5.0,
    ) -> None:
        self._limits = Limits(
            max_bytes=max_bytes, keep_bytes=max_bytes, max_age_s=max_age_s, keep_delivered_s=keep_delivered_s
        )
        self._memory_limits = memory_limits(min(overflow_bytes, max_bytes), max_age_s, keep_delivered_s)
        self._clock = clock
        self._renew_lock()
        self._is_held = False
        self._owner = LeaseOwner()
        self._routes: tuple[str, ...] | None = None
        self._patience_s = busy_timeout_s
        self._file = SpoolFile(Path(path).expanduser(), min(busy_timeout_s, _ATTEMPT_S))
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._log: SpoolLog | None = None
        self._log_id = ""
        self._known: defaultdict[str, int] = defaultdict(int)
        self._loss_reason = "spool_replaced"
        self._memory: SpoolLog | None = None
        self._deferred_operations: list[Callable[[SpoolLog], object]] = []
        self._error = ""
        self._pause_s = self._retry_s = 0.0
        self._is_used = self._is_inherited = self._is_closed = False
        try:
            self._open()
        except (OSError, sqlite3.Error):
            self._on_disk(lambda _: None, None, _SHORT_S)
        fork_hooks.register(self)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()
        self._between_attempts = threading.Condition(self._lock)

    def register(self, routes: Sequence[str]) -> None:
        with self._lock:
            self._routes = tuple(routes)
            if self._memory is not None:
                self._memory.register(routes)
            if not self._on_disk(self._begin, otherwise=False, patience_s=0.0):
                self._log_id = ""  # the next opening begins

    def put(self, records: Sequence[SpanRecord], skipped: Mapping[str, Mapping[int, str]]) -> int:
        with self._lock:
            try:
                return self._use(lambda log: log.put(records, skipped))
            except SpoolUnavailable:
                if self._is_closed:
                    counters.add("dropped", len(records), reason="shutdown")
                    return len(records)
                counters.add("spool_memory_fallback", len(records))
                return self._in_memory().put(records, skipped)

    def lease(
        self, route: str, *, max_records: int, max_bytes: int, now_s: float, is_early: bool = False
    ) -> Lease | None:
        def leased(log: SpoolLog) -> Lease | None:
            return log.lease(route, max_records=max_records, max_bytes=max_bytes, now_s=now_s, is_early=is_early)

        with self._lock:
            if self._memory is not None:
                lease = leased(self._memory)
                if lease is not None or self._memory.has_queued(route):
                    return lease
            return self._on_disk(leased, None)

    def extend(self, lease: Lease, now_s: float) -> bool:
        with self._lock:
            if self._memory is not None and self._memory.owns(lease):
                return self._memory.extend(lease, now_s)
            return self._on_disk(lambda log: log.extend(lease, now_s), otherwise=False)

    def ack(self, lease: Lease) -> None:
        self._settle(lease, lambda log: log.ack(lease))

    def nack(self, lease: Lease, due_s: float, reason: str) -> None:
        def returned(log: SpoolLog) -> None:
            if log.owns(lease):
                log.nack(lease, due_s, reason)
            else:
                self._count_lost(lease.route, len(lease.entries))

        self._settle(lease, returned)

    def dead_letter(self, lease: Lease, sequences: Sequence[int], reason: str) -> None:
        self._settle(lease, lambda log: log.dead_letter(lease, sequences, reason))

    def settle(self, lease: Lease, delivered: Sequence[int], rejected: Mapping[int, str]) -> None:
        self._settle(lease, lambda log: log.settle(lease, delivered, rejected))

    def state(self, route: str) -> QueueStats:
        with self._lock:
            # If the disk cannot be read, the number known to be queued is used.
            unread = replace(NO_STATE, queued=self._known.get(route, 0))
            disk = self._on_disk(lambda log: log.state(route), unread, 0.0)
            return disk if self._memory is None else _sum(disk, self._memory.state(route))

    def has_queued(self, route: str) -> bool:
        with self._lock:
            on_disk = self._on_disk(lambda log: log.has_queued(route), self._known.get(route, 0) > 0, 0.0)
            return on_disk or (self._memory is not None and self._memory.has_queued(route))

    def due_s(self, route: str) -> float:
        return max(self._on_both(lambda log: log.due_s(route), 0.0, 0.0))

    def count_others(self, route: str) -> None:
        self._on_disk(lambda log: log.count_others(route), None, 0.0)

    def routes(self) -> list[str]:
        disk, memory = self._on_both(SpoolLog.routes, [], 0.0)
        return list(dict.fromkeys(disk + memory))

    def dead_letters(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        return _newest(self._on_both(lambda log: log.dead_letters(route, limit), []), limit)

    def dropped(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        return _newest(self._on_both(lambda log: log.dropped(route, limit), []), limit)

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
        def step(replay: Replay) -> int | None:
            return self._on_disk(lambda log: log.replay_step(replay), None)

        count = Replay(route, since_s, until_s, trace_id, waiting_for, evaluate).run(step, on_step)
        with self._lock:
            if self._memory is not None:
                count += self._memory.replay(
                    route, since_s, until_s, trace_id=trace_id, waiting_for=waiting_for, evaluate=evaluate
                )
        return count

    def requeue(self, route: str, sequences: Sequence[int] | None = None) -> int:
        return sum(self._on_both(lambda log: log.requeue(route, sequences), 0))

    def purge(self, route: str, sequences: Sequence[int] | None = None) -> int:
        return sum(self._on_both(lambda log: log.purge(route, sequences), 0))

    def history(self, trace_id: bytes) -> list[RecordHistory]:
        disk, memory = self._on_both(lambda log: log.history(trace_id), [])
        return disk + memory

    def records(self, trace_id: bytes, history: Sequence[RecordHistory] = ()) -> list[SpanRecord]:
        # Sequences in memory come after all of those on disk.
        disk, memory = self._on_both(lambda log: log.records(trace_id, history), [])
        return disk + memory

    def enforce_limits(self) -> int:
        return sum(self._on_both(SpoolLog.enforce_limits, 0))

    def location(self) -> tuple[str, str]:
        with self._lock:
            self._on_disk(lambda _: None, None)
            return str(self._file.path), self._error

    def usage(self) -> SpoolUsage:
        with self._lock:
            empty = SpoolUsage(str(self._file.path), records=0, bytes_on_disk=0, bytes_used=0, oldest_s=0.0)
            disk, memory = self._on_disk(SpoolLog.usage, empty), self._memory
            in_memory = max((memory.state(route).queued for route in memory.routes()), default=0) if memory else 0
            return replace(disk, in_memory=in_memory, error=self._error)

    def close(self) -> None:
        with self._lock:
            if self._memory is not None:
                count_dropped(self._memory)
                self._memory.close()
                self._memory = None
            if self._deferred_operations:
                self._retry_s = 0.0
                self._on_disk(lambda _: None, None, _SHORT_S)
            self._is_closed = True
            if self._log is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._log.close()
            self._pause()

    def before_fork(self) -> None:
        """Close the file: an SQLite connection must not be used in a forked process."""
        self._is_held = self._lock.acquire(timeout=fork_hooks.FORK_TIMEOUT_S)
        if self._is_held:
            self._pause()

    def after_fork_in_parent(self) -> None:
        """Release the lock; the file is opened again at the next use."""
        if self._is_held:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start empty: leases, deferred acknowledgements and records in memory belong to the parent."""
        self._renew_lock()
        self._owner = LeaseOwner()
        self._deferred_operations.clear()
        self._known.clear()
        if self._memory is not None:
            self._memory.leak()
            self._memory = None
        self._is_used = False
        if self._connection is None:
            self._pid = os.getpid()
            self._pause_s = self._retry_s = 0.0

    def _begin(self, log: SpoolLog) -> bool:
        """Register the routes of this process, and read how many records are queued for them; return True."""
        if self._routes is not None:
            log.register(self._routes)
            self._known.clear()
            self._known.update({route: log.state(route).queued for route in self._routes})
        return True

    def _in_memory(self) -> SpoolLog:
        if self._memory is None:
            self._memory = SpoolLog(connect_memory(_FIRST_IN_MEMORY), self._memory_limits, self._clock)
            if self._routes is not None:
                self._memory.register(self._routes)
        return self._memory

    def _settle(self, lease: Lease, operation: Callable[[SpoolLog], object]) -> None:
        with self._lock:
            if self._memory is not None and self._memory.owns(lease):
                operation(self._memory)
                return
            try:
                self._use(operation)
            except SpoolUnavailable:
                # There is at most one lease per route, so the list stays short.
                self._deferred_operations.append(operation)

    def _on_disk(self, operation: Callable[[SpoolLog], R], otherwise: R, patience_s: float | None = None) -> R:
        with self._lock:
            try:
                return self._use(operation, patience_s)
            except SpoolUnavailable:
                return otherwise

    def _on_both(
        self, operation: Callable[[SpoolLog], R], otherwise: R, patience_s: float | None = None
    ) -> tuple[R, R]:
        with self._lock:
            disk = self._on_disk(operation, otherwise, patience_s)
            return disk, otherwise if self._memory is None else operation(self._memory)

    def _use(self, operation: Callable[[SpoolLog], R], patience_s: float | None = None) -> R:
        """Return the result of ``operation`` on the log; if the file is damaged, it runs once more on a new file.

        While another process locks the file, it is tried again for ``patience_s``, ``busy_timeout_s`` if None. Other
        threads can use the spool between the attempts.

        Raises SpoolUnavailable, also without an attempt during the pause after a failure, and inside another ``_use``
        (a signal handler may run there).
        """
        limit_s = self._patience_s if patience_s is None else patience_s
        deadline_s = time.monotonic() + limit_s
        while True:
            try:
                return self._attempt(operation)
            except (OSError, ConfigError, sqlite3.OperationalError, *_DAMAGE) as error:
                if isinstance(error, sqlite3.ProgrammingError):
                    raise  # a defect in this code, not an error of the disk
                is_locked = isinstance(error, BlockingIOError) or getattr(error, "sqlite_errorcode", 0) in _LOCKED
                if not is_locked or (time.monotonic() >= deadline_s and limit_s >= self._patience_s):
                    self._mark_unavailable(error)
                    raise SpoolUnavailable from error
                if time.monotonic() >= deadline_s:
                    self._pause()
                    raise SpoolUnavailable from error
            # Releases the lock, however often this thread has taken it.
            self._between_attempts.wait(_ATTEMPT_S / 5)

    def _attempt(self, operation: Callable[[SpoolLog], R]) -> R:
        if self._is_used:
            raise SpoolUnavailable
        try:
            self._is_used = True
            return self._twice(operation)
        finally:
            self._is_used = False

    def _twice(self, operation: Callable[[SpoolLog], R]) -> R:
        try:
            return operation(self._open())
        except (*_DAMAGE, *_OF_VALUES) as error:
            if not self._is_damage(error):
                raise
        # A failed read of the disk looks like damage, but not to a second connection.
        self._pause()
        try:
            return operation(self._open())
        except (*_DAMAGE, *_OF_VALUES) as error:
            if not self._is_damage(error):
                raise
            self._quarantine(error)
        return operation(self._open())

    def _is_damage(self, error: Exception) -> bool:
        if isinstance(error, _OF_VALUES):
            return self._connection is not None and not is_sound(self._connection)
        return type(error) in _DAMAGE

    def _open(self) -> SpoolLog:
        if self._pid != os.getpid():
            self._leak_inherited()
        if self._is_closed or self._is_inherited:
            raise SpoolUnavailable
        if self._log is not None and self._file.has_moved():
            self._file.remove_wal_files()
            self._pause()
            self._loss_reason = "spool_replaced"
        if self._log is None:
            if self._clock() < self._retry_s <= self._clock() + _LONGEST_PAUSE_S:
                raise SpoolUnavailable
            self._connection = self._file.open()
            self._log = self._log_on(self._connection)
            self._pause_s = 0.0
            if self._error:
                logger.info("spancast: the spool %s is used again", self._file.path)
                self._error = ""
        while self._deferred_operations:
            self._deferred_operations[0](self._log)
            self._deferred_operations.pop(0)
        return self._log

    def _log_on(self, connection: sqlite3.Connection) -> SpoolLog:
        log = SpoolLog(
            connection, self._limits, self._clock, owner=self._owner, known=self._known, file=self._file.identity
        )
        if log.id == self._log_id:
            if self._routes is not None:
                log.register(self._routes)
            return log
        for route, count in self._known.items() if self._log_id else ():
            self._count_lost(route, count)
        self._begin(log)
        self._log_id = log.id
        return log

    def _leak_inherited(self) -> None:
        # The process was forked without Python's hooks, with the file open. SQLite's state of its locks was copied and
        # is wrong here. A second connection could damage the file, so this process does not use the file.
        if self._connection is not None:
            fork_hooks.leak(self._connection)
            self._log = self._connection = None
            self._is_inherited = True
            self._error = "the process was forked with the file open"
            warn_once("spool:inherited", "spancast: %s; its records stay in memory until delivered", self._error)
        self._pid = os.getpid()

    def _pause(self) -> None:
        """Close the file and keep the leases."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._log = self._connection = None

    def _mark_unavailable(self, error: Exception) -> None:
        self._pause()
        self._error = f"{type(error).__name__}: {error}"
        self._pause_s = min(_LONGEST_PAUSE_S, max(1.0, 2 * self._pause_s))
        self._retry_s = self._clock() + self._pause_s
        counters.add("spool_unavailable")
        warn_once(
            f"spool:{self._file.path}:{self._error}",
            "spancast: the spool %s cannot be used (%s); records are kept in memory until it can, bounded",
            self._file.path,
            self._error,
        )

    def _quarantine(self, error: Exception) -> None:
        self._pause()
        renamed = self._file.quarantine(self._clock())
        if renamed is None:
            return  # another process has renamed it
        counters.add("spool_corrupt_files")
        logger.error(
            "spancast: the spool %s is damaged (%s); it is kept as %s, and a new one is used",
            self._file.path,
            error,
            renamed.name,
        )
        self._loss_reason = "spool_damaged"

    def _count_lost(self, route: str, count: int) -> None:
        if count:
            name = counted_as(route, self._routes)
            counters.add("dropped", count, destination=name, reason=self._loss_reason)
            logger.warning(_LOSS_MESSAGES[self._loss_reason], self._file.path, count, name)


def _newest(lists: tuple[list[DeadLetter], list[DeadLetter]], limit: int) -> list[DeadLetter]:
    return sorted(lists[0] + lists[1], key=lambda item: (item.at_s, item.sequence), reverse=True)[:limit]


def _sum(disk: QueueStats, memory: QueueStats) -> QueueStats:
    return QueueStats(
        queued=disk.queued + memory.queued,
        queued_bytes=disk.queued_bytes + memory.queued_bytes,
        dead_lettered=disk.dead_lettered + memory.dead_lettered,
        attempts=max(disk.attempts, memory.attempts),
        due_s=max(disk.due_s, memory.due_s),
        last_error=disk.last_error or memory.last_error,
        delivered=disk.delivered + memory.delivered,
        dropped=disk.dropped + memory.dropped,
        last_delivered_s=max(disk.last_delivered_s, memory.last_delivered_s),
    )
