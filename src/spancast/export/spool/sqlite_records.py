"""Batches as rows: encoded by ``put``, decoded for delivery.

Invariant (``tests/export/test_disk_spool.py``): the content of a call is stored in its body only; facts lose
``input`` and ``output``.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import accumulate
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from spancast.diagnostics import counters, warn_once
from spancast.export.spool.protocol import Entry
from spancast.model import json_codec
from spancast.model.span_record import FactValue, SpanRecord

BATCH_RECORDS: Final = 512
"""The most records of one row."""
_CONTENT_FACTS: Final = frozenset({"input", "output"})
_REASON_CHARACTERS: Final = 2000
_LARGEST_INTEGER: Final = (1 << 63) - 1
# What an entry takes in memory beside its body, facts included.
_OBJECT_BYTES: Final = 1500
# Trace id, span id, parent's, end, size of the body, indexes of resource and scope, flags.
_SPAN: Final = Struct(">16s8s8sqIHHB")
_IS_LLM: Final = 1
_HAS_PARENT: Final = 2
_APPEND: Final = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class SpanRow(NamedTuple):
    """A record without its body; ``size`` is 0 if the body is forgotten."""

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
        """Return whether the span belongs to an LLM call."""
        return bool(self.flags & _IS_LLM)

    @property
    def parent(self) -> bytes:
        """Return the parent's id, empty for a root."""
        return self.parent_span_id if self.flags & _HAS_PARENT else b""


def without_content(record: SpanRecord) -> SpanRecord:
    """Return ``record`` as the spool keeps it; itself if its facts hold no content."""
    if _CONTENT_FACTS.isdisjoint(record.facts):
        return record
    return replace(record, facts={name: value for name, value in record.facts.items() if name not in _CONTENT_FACTS})


def storable(text: str) -> str:
    """Return a reason as SQLite takes it: without lone surrogates, at most 2,000 characters."""
    return text[:_REASON_CHARACTERS].encode("utf-8", "replace").decode()


def parts(records: Sequence[SpanRecord], max_bytes: int) -> Iterator[Sequence[SpanRecord]]:
    """Yield ``records`` in the parts that make one row each."""
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
    """Write ``records`` (without content facts) as one row whose first sequence is ``first``."""
    heads: dict[bytes, int] = {}
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
                heads.setdefault(record.resource, len(heads)),
                heads.setdefault(record.scope, len(heads)),
                (_IS_LLM if record.is_genai else 0) | (_HAS_PARENT if parent else 0),
            )
        )
    facts = json_codec.encode_bytes([[len(head) for head in heads], [record.facts for record in records]])
    content = b"".join([*heads, *[record.body for record in records]])
    size = sum([len(record.body) for record in records])
    index = b"".join(spans)
    crc = crc32(content, crc32(facts, crc32(index)))
    # For bytes Python's sqlite3 looks for an adapter, which takes longer than to store them.
    blobs = bytearray(index), bytearray(facts), bytearray(content)
    connection.execute(_APPEND, (first, first + len(records) - 1, put_s, size, routes, crc, *blobs))


def read_spans(index: bytes) -> list[SpanRow]:
    """Return the rows of the column ``spans``."""
    return [SpanRow(*row) for row in _SPAN.iter_unpack(index[: len(index) // _SPAN.size * _SPAN.size])]


def read_facts(text: bytes) -> tuple[list[int], list[dict[str, FactValue]]]:
    """Return the sizes of resources and scopes, and the facts of each record."""
    heads, facts = json_codec.decode(text)
    return heads, facts


def forget_bodies(connection: sqlite3.Connection, first: int, kept: AbstractSet[int]) -> None:
    """Remove the bodies of a batch but those of the sequences ``kept``."""
    row = connection.execute("SELECT * FROM batches WHERE first = ?", (first,)).fetchone()
    _, last, put_s, _, routes, _, index, facts, content = row
    spans = read_spans(index)
    starts = list(accumulate([span.size for span in spans], initial=sum(read_facts(facts)[0])))
    sizes = [span.size if sequence in kept else 0 for sequence, span in enumerate(spans, first)]
    if sizes == [span.size for span in spans]:
        return
    bodies = [content[start : start + size] for start, size in zip(starts, sizes, strict=False)]
    content = b"".join([content[: starts[0]], *bodies]) if any(sizes) else b""
    index = b"".join([_SPAN.pack(*span._replace(size=size)) for span, size in zip(spans, sizes, strict=True)])
    # Deleted and added again: a row that is only made shorter leaves its page nearly empty.
    connection.execute("DELETE FROM batches WHERE first = ?", (first,))
    crc = crc32(content, crc32(facts, crc32(index)))
    connection.execute(_APPEND, (first, last, put_s, sum(sizes), routes, crc, index, facts, content))


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of a row, in order; None for one whose body is forgotten or damaged.

    ``body_bytes`` is that of all records, 0 if one of them is None.
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
        """Return about what it takes in memory."""
        bodies = self.body_bytes or sum([len(entry.record.body) for entry in self.entries if entry])
        return bodies + _OBJECT_BYTES * len(self.entries)

    def between(self, first: int, last: int) -> tuple[Entry | None, ...]:
        """Return the entries of a range of sequences."""
        return self.entries[first - self.first : last - self.first + 1]


class BatchReader:
    """Reads batches, and remembers the latest, so that of twenty routes only one reads the file.

    ``max_bytes`` bounds the memory they take. What was just put is not read at all: reading it back costs as much as to
    write it (``benchmarks/spooling.py``).
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._recent: OrderedDict[int, Batch] = OrderedDict()
        self._recent_bytes = 0
        self._heads: dict[bytes, bytes] = {}

    def remember(self, first: int, records: Iterable[SpanRecord]) -> Batch:
        """Keep a batch in memory; the oldest ones give way."""
        entries = [Entry(sequence, record) if record.body else None for sequence, record in enumerate(records, first)]
        size = 0 if None in entries else sum([len(entry.record.body) for entry in entries if entry])
        batch = self._recent[first] = Batch(first, tuple(entries), size)
        self._recent_bytes += batch.memory_bytes
        while self._recent_bytes > self._max_bytes:
            self.forget(next(iter(self._recent)))
        return batch

    def forget(self, first: int) -> None:
        """Remove a batch from memory."""
        if batch := self._recent.pop(first, None):
            self._recent_bytes -= batch.memory_bytes

    def forget_until(self, last: int) -> None:
        """Remove the oldest batches from memory, up to the sequence ``last``."""
        while self._recent and self._recent[oldest := next(iter(self._recent))].last <= last:
            self.forget(oldest)

    def read(self, connection: sqlite3.Connection, first: int) -> Batch:
        """Return the batch that begins with the sequence ``first``."""
        known = self._recent.get(first)
        if known is not None:
            return known
        row = connection.execute("SELECT crc, spans, facts, content FROM batches WHERE first = ?", (first,)).fetchone()
        if row is None:  # evicted by another process
            return Batch(first, ())
        crc, index, facts, content = row
        if crc32(content, crc32(facts, crc32(index))) != crc:
            count = len(index) // _SPAN.size
            counters.add("spool_corrupt_records", count)
            warn_once("spool:damaged_records", "spancast: records in the spool are damaged; they are listed as refused")
            return Batch(first, (None,) * count)
        return self.remember(first, self._records(read_spans(index), facts, content))

    def _records(self, spans: Sequence[SpanRow], text: bytes, content: bytes) -> Iterator[SpanRecord]:
        head_sizes, facts = read_facts(text)
        place = 0
        heads: list[bytes] = []
        for size in head_sizes:
            head = content[place : place + size]
            # The same object for all batches, as for spans of this process.
            heads.append(self._heads.setdefault(head, head))
            place += size
        if len(self._heads) > BATCH_RECORDS:
            self._heads.clear()
        for span, told in zip(spans, facts, strict=True):
            yield SpanRecord(
                trace_id=span.trace_id,
                span_id=span.span_id,
                parent_span_id=span.parent,
                end_ns=span.end_ns,
                is_genai=span.is_genai,
                resource=heads[span.resource],
                scope=heads[span.scope],
                body=content[place : place + span.size],
                facts=told,
            )
            place += span.size
