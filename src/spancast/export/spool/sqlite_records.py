"""Records as rows of the log: appended, and read back whole.

Must never: store the content of a call beside its body; facts lose ``input`` and ``output``.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from spancast.export.spool.protocol import Entry
from spancast.model import json_codec
from spancast.model.span_record import FactValue, SpanRecord

_CONTENT_FACTS = frozenset({"input", "output"})
_CHUNK = 64
_REASON_CHARACTERS = 2000

_REMEMBERED_CONTEXTS = 256
# What an entry takes in memory beside its body, facts included.
_OBJECT_BYTES = 1500

_APPEND_LOG = "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_APPEND_BODY = "INSERT INTO bodies VALUES (?, ?, ?, ?)"
_READ = f"""
    SELECT l.sequence, l.trace_id, l.span_id, l.parent, l.end_ns, l.is_genai, l.resource, l.scope,
        b.crc, b.facts, b.body
    FROM log l JOIN bodies b ON b.sequence = l.sequence WHERE l.sequence IN ({",".join("?" * _CHUNK)})"""  # noqa: S608 - question marks only


def _blob(value: bytes) -> object:
    # For bytes (and bool) Python's sqlite3 looks for an adapter each time, which takes longer than to store the row.
    return bytearray(value) if type(value) is bytes else value


def without_content(record: SpanRecord) -> SpanRecord:
    """Return ``record`` as the spool keeps it; itself where its facts hold no content."""
    if _CONTENT_FACTS.isdisjoint(record.facts):
        return record
    facts = record.facts.copy()
    for name in _CONTENT_FACTS:
        facts.pop(name, None)
    return SpanRecord(
        trace_id=record.trace_id,
        span_id=record.span_id,
        parent_span_id=record.parent_span_id,
        end_ns=record.end_ns,
        is_genai=record.is_genai,
        resource=record.resource,
        scope=record.scope,
        body=record.body,
        facts=facts,
    )


def storable(text: str) -> str:
    """Return a reason as SQLite takes it, without lone surrogates, and not longer than a page of it is worth."""
    return text[:_REASON_CHARACTERS].encode("utf-8", "replace").decode()


def append(
    connection: sqlite3.Connection, records: Sequence[SpanRecord], puts_s: Sequence[float], audience: int | None
) -> int:
    """Write ``records`` (without content facts) behind the log's end; return the first one's sequence."""
    (first,) = connection.execute("SELECT next FROM counter").fetchone()
    connection.execute("UPDATE counter SET next = ?", (first + len(records),))
    contexts = {part: 0 for record in records for part in (record.resource, record.scope)}
    for part in contexts:
        contexts[part] = _context(connection, part)
    log: list[tuple[object, ...]] = []
    bodies: list[tuple[object, ...]] = []
    for sequence, (record, put_s) in enumerate(zip(records, puts_s, strict=True), first):
        facts, body = json_codec.encode_bytes(record.facts), record.body
        log.append(
            (
                sequence,
                put_s,
                _blob(record.trace_id),
                _blob(record.span_id),
                _blob(record.parent_span_id),
                record.end_ns,
                1 if record.is_genai else 0,
                contexts[record.resource],
                contexts[record.scope],
                audience,
                len(body),
            )
        )
        bodies.append((sequence, crc32(body, crc32(facts)), _blob(facts), _blob(body)))
    connection.executemany(_APPEND_LOG, log)
    connection.executemany(_APPEND_BODY, bodies)
    return int(first)


def last_sequence(connection: sqlite3.Connection) -> int:
    """Return the sequence of the youngest record ever put, whether kept or not."""
    return int(connection.execute("SELECT next - 1 FROM counter").fetchone()[0])


def _context(connection: sqlite3.Connection, content: bytes) -> int:
    digest = hashlib.blake2b(content, digest_size=16).digest()
    row = connection.execute("SELECT id FROM contexts WHERE digest = ?", (digest,)).fetchone()
    if row is not None:
        return int(row[0])
    return connection.execute("INSERT INTO contexts (digest, content) VALUES (?, ?)", (digest, content)).lastrowid or 0


def read_facts(text: bytes) -> dict[str, FactValue]:
    """Return facts as they were stored."""
    facts = json_codec.decode(text)
    return dict(facts) if json_codec.is_mapping(facts) else {}


class Run(NamedTuple):
    """Entries of which each is the log's next; ``is_full``: more would be over a bound, so that none is missed."""

    entries: tuple[Entry, ...]
    is_full: bool


class RecordReader:
    """Reads entries; remembers the last ones, so that of twenty routes one pays for the reading.

    ``max_bytes`` bounds the memory they take. Entries that were just put need no reading at all.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._recent: OrderedDict[int, Entry] = OrderedDict()
        self._recent_bytes = 0
        self._contexts: dict[int, bytes] = {}
        self._last_run: tuple[object, Run] = ((), Run((), is_full=False))

    def remember(self, entries: Sequence[Entry]) -> None:
        """Keep ``entries`` at hand, the oldest giving way."""
        self._last_run = ((), Run((), is_full=False))
        for entry in entries:
            self._recent[entry.sequence] = entry
        self._recent_bytes += sum([len(entry.record.body) for entry in entries]) + _OBJECT_BYTES * len(entries)
        while self._recent_bytes > self._max_bytes:
            _, gone = self._recent.popitem(last=False)
            self._recent_bytes -= gone.record.size_bytes + _OBJECT_BYTES

    def forget(self, last: int) -> None:
        """Let go of what was put first, up to the sequence ``last``: nobody will ask for it."""
        recent = self._recent
        while recent and (oldest := next(iter(recent))) <= last:
            self._recent_bytes -= recent.pop(oldest).record.size_bytes + _OBJECT_BYTES

    def run(self, after: int, max_records: int, max_bytes: int) -> Run:
        """Return what is at hand of the log behind ``after``, without gaps: made once for all routes who are there."""
        asked = (after, max_records, max_bytes)
        if self._last_run[0] != asked:
            self._last_run = (asked, self._run(*asked))
        return self._last_run[1]

    def _run(self, after: int, max_records: int, max_bytes: int) -> Run:
        taken: list[Entry] = []
        total = 0
        for sequence in range(after + 1, after + 1 + max_records):
            entry = self._recent.get(sequence)
            if entry is None:
                return Run(tuple(taken), is_full=False)
            total += len(entry.record.body)
            if taken and total > max_bytes:
                break
            taken.append(entry)
        return Run(tuple(taken), is_full=True)

    def read(self, connection: sqlite3.Connection, sequences: Sequence[int]) -> tuple[Entry, ...]:
        """Return the entries of ``sequences``, in order, without those that are gone or damaged."""
        try:
            return tuple(map(self._recent.__getitem__, sequences))
        except KeyError:
            found = {number: self._recent[number] for number in sequences if number in self._recent}
        read = list(self._from_disk(connection, [number for number in sequences if number not in found]))
        self.remember(read)
        found.update((entry.sequence, entry) for entry in read)
        return tuple(found[number] for number in sequences if number in found)

    def _from_disk(self, connection: sqlite3.Connection, sequences: Sequence[int]) -> Iterator[Entry]:
        for start in range(0, len(sequences), _CHUNK):
            chunk = sequences[start : start + _CHUNK]
            # Always the same statement, so that it is compiled once.
            for row in connection.execute(_READ, (*chunk, *(-1,) * (_CHUNK - len(chunk)))):
                sequence, trace_id, span_id, parent, end_ns, is_genai, resource, scope, crc, facts, body = row
                if crc32(body, crc32(facts)) != crc:
                    continue
                record = SpanRecord(
                    trace_id=trace_id,
                    span_id=span_id,
                    parent_span_id=parent,
                    end_ns=end_ns,
                    is_genai=bool(is_genai),
                    resource=self._content(connection, resource),
                    scope=self._content(connection, scope),
                    body=body,
                    facts=read_facts(facts),
                )
                yield Entry(sequence, record)

    def _content(self, connection: sqlite3.Connection, number: int) -> bytes:
        content = self._contexts.get(number)
        if content is None:
            row = connection.execute("SELECT content FROM contexts WHERE id = ?", (number,)).fetchone()
            content = bytes(row[0]) if row else b""
            if len(self._contexts) >= _REMEMBERED_CONTEXTS:
                self._contexts.clear()
            self._contexts[number] = content
        return content
