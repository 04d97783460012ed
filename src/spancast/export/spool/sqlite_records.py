"""Batches as rows of the table ``batches``: encoded by ``put``, decoded for delivery."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from spancast.diagnostics import counters, warn_once
from spancast.export.spool.protocol import Entry
from spancast.model.span_record import SpanRecord

BATCH_RECORDS: Final = 512
"""Maximum of records per row."""
_REASON_CHARACTERS: Final = 2000
_LARGEST_INTEGER: Final = (1 << 63) - 1
# Memory of an entry without its body.
_OBJECT_BYTES: Final = 1500
# Trace id, span id, parent span id, end, size of the body, indexes of resource and scope, flags.
_SPAN: Final = Struct(">16s8s8sqIHHB")
_IS_GENAI: Final = 1
_HAS_PARENT: Final = 2
_APPEND: Final = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_READ: Final = "SELECT min(last - first + 1, 512), crc, spans, contexts, content FROM batches WHERE first = ?"


class SpanRow(NamedTuple):
    """A record without its body; ``size`` is 0 if the body is deleted."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    end_ns: int
    size: int
    resource: int
    scope: int
    flags: int

    @property
    def is_genai(self) -> bool:
        """Return whether it is a GenAI span."""
        return bool(self.flags & _IS_GENAI)

    @property
    def parent(self) -> bytes:
        """Return the parent's id, empty for a root."""
        return self.parent_span_id if self.flags & _HAS_PARENT else b""


def storable(text: str) -> str:
    """Return a reason that SQLite can store: without lone surrogates, at most 2,000 characters."""
    return text[:_REASON_CHARACTERS].encode("utf-8", "replace").decode()


def parts(records: Sequence[SpanRecord], max_bytes: int) -> Iterator[Sequence[SpanRecord]]:
    """Yield parts of ``records``, each for one row."""
    start = size = 0
    for index, record in enumerate(records):
        size += len(record.body)
        if index > start and (size > max_bytes or index - start == BATCH_RECORDS):
            yield records[start:index]
            start, size = index, len(record.body)
    yield records[start:]


def append(
    connection: sqlite3.Connection, records: Sequence[SpanRecord], first: int, put_s: float, routes: str | None
) -> None:
    """Write ``records`` as one row whose first sequence is ``first``."""
    contexts: dict[bytes, int] = {}
    spans: list[bytes] = []
    for record in records:
        parent = record.parent_span_id
        spans.append(
            _SPAN.pack(
                record.trace_id,
                record.span_id,
                parent,
                min(record.end_ns, _LARGEST_INTEGER),
                len(record.body),
                contexts.setdefault(record.resource, len(contexts)),
                contexts.setdefault(record.scope, len(contexts)),
                (_IS_GENAI if record.is_genai else 0) | (_HAS_PARENT if parent else 0),
            )
        )
    sizes = ",".join([str(len(context)) for context in contexts])
    content = b"".join([*contexts, *[record.body for record in records]])
    size = sum([len(record.body) for record in records])
    index = b"".join(spans)
    crc = _crc(index, sizes, content)
    # bytearray: for bytes, Python's sqlite3 looks for an adapter, which takes longer than storing them.
    blobs = bytearray(index), sizes, bytearray(content)
    connection.execute(_APPEND, (first, first + len(records) - 1, put_s, size, routes, crc, *blobs))


def read_spans(index: bytes) -> list[SpanRow]:
    """Return the rows of the column ``spans``."""
    return [SpanRow(*row) for row in _SPAN.iter_unpack(index[: len(index) // _SPAN.size * _SPAN.size])]


def _crc(index: bytes, contexts: str, content: bytes) -> int:
    return crc32(content, crc32(contexts.encode(), crc32(index)))


def _sizes(contexts: str) -> list[int]:
    """Return the sizes of resources and scopes."""
    return [int(size) for size in contexts.split(",")]


def forget_bodies(connection: sqlite3.Connection, first: int, kept: AbstractSet[int]) -> None:
    """Delete the bodies of a batch except those of the sequences ``kept``."""
    row = connection.execute("SELECT * FROM batches WHERE first = ?", (first,)).fetchone()
    _, last, put_s, _, routes, _, index, contexts, content = row
    spans = read_spans(index)
    starts = list(accumulate([span.size for span in spans], initial=sum(_sizes(contexts))))
    sizes = [span.size if sequence in kept else 0 for sequence, span in enumerate(spans, first)]
    if sizes == [span.size for span in spans]:
        return
    bodies = [content[start : start + size] for start, size in zip(starts, sizes, strict=False)]
    content = b"".join([content[: starts[0]], *bodies]) if any(sizes) else b""
    index = b"".join([_SPAN.pack(*span._replace(size=size)) for span, size in zip(spans, sizes, strict=True)])
    # Deleted and inserted again: an update to a shorter row leaves its page nearly empty.
    connection.execute("DELETE FROM batches WHERE first = ?", (first,))
    crc = _crc(index, contexts, content)
    connection.execute(_APPEND, (first, last, put_s, sum(sizes), routes, crc, index, contexts, content))


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of a row, in order; None for a record whose body is deleted or damaged.

    ``body_bytes`` is the sum over all records, 0 if one of them is None.
    """

    first: int
    entries: tuple[Entry | None, ...]
    body_bytes: int = 0

    @property
    def last(self) -> int:
        """Return the sequence of the last record."""
        return self.first + len(self.entries) - 1

    @property
    def memory_bytes(self) -> int:
        """Return an estimate of the memory it takes."""
        bodies = self.body_bytes or sum([len(entry.record.body) for entry in self.entries if entry])
        return bodies + _OBJECT_BYTES * len(self.entries)

    def between(self, first: int, last: int) -> tuple[Entry | None, ...]:
        """Return the entries of a range of sequences."""
        return self.entries[first - self.first : last - self.first + 1]


class BatchReader:
    """A reader of batches with a cache of the latest, so that routes share one read of the file.

    ``max_bytes`` limits the memory of the cache. New batches are added by ``put``, because reading a batch back takes
    as long as writing it (``benchmarks/spooling.py``).
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._recent: OrderedDict[int, Batch] = OrderedDict()
        self._recent_bytes = 0
        self._contexts: dict[bytes, bytes] = {}

    def remember(self, first: int, records: Iterable[SpanRecord]) -> Batch:
        """Add a batch to the cache; the oldest batches are evicted."""
        entries = [Entry(sequence, record) if record.body else None for sequence, record in enumerate(records, first)]
        size = 0 if None in entries else sum([len(entry.record.body) for entry in entries if entry])
        batch = self._recent[first] = Batch(first, tuple(entries), size)
        self._recent_bytes += batch.memory_bytes
        while self._recent_bytes > self._max_bytes:
            self.forget(next(iter(self._recent)))
        return batch

    def forget(self, first: int) -> None:
        """Remove a batch from the cache."""
        if batch := self._recent.pop(first, None):
            self._recent_bytes -= batch.memory_bytes

    def forget_until(self, last: int) -> None:
        """Remove the oldest batches from the cache, up to the sequence ``last``."""
        while self._recent and self._recent[oldest := next(iter(self._recent))].last <= last:
            self.forget(oldest)

    def read(self, connection: sqlite3.Connection, first: int) -> Batch:
        """Return the batch that begins with the sequence ``first``."""
        known = self._recent.get(first)
        if known is not None:
            return known
        row = connection.execute(_READ, (first,)).fetchone()
        if row is None:  # evicted by another process
            return Batch(first, ())
        count, crc, index, sizes, content = row
        typed = isinstance(index, bytes) and isinstance(sizes, str) and isinstance(content, bytes)
        if not typed or _crc(index, sizes, content) != crc:
            counters.add("spool_corrupt_records", count)
            warn_once(
                "spool:damaged_records", "spancast: records in the spool are damaged; they are listed as dead letters"
            )
            return Batch(first, (None,) * count)
        return self.remember(first, self._records(read_spans(index), _sizes(sizes), content))

    def _records(self, spans: Sequence[SpanRow], context_sizes: Sequence[int], content: bytes) -> Iterator[SpanRecord]:
        position = 0
        contexts: list[bytes] = []
        for size in context_sizes:
            context = content[position : position + size]
            # Equal contexts are the same object in all batches, as for spans of this process.
            contexts.append(self._contexts.setdefault(context, context))
            position += size
        if len(self._contexts) > BATCH_RECORDS:
            self._contexts.clear()
        for span in spans:
            yield SpanRecord(
                trace_id=span.trace_id,
                span_id=span.span_id,
                parent_span_id=span.parent,
                end_ns=span.end_ns,
                is_genai=span.is_genai,
                resource=contexts[span.resource],
                scope=contexts[span.scope],
                body=content[position : position + span.size],
            )
            position += span.size
