"""The records of one batch, each read once for all views of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from spancast.encoding.otlp.decode import SpanFields, read_span
from spancast.encoding.span_data import SpanData, plain_span
from spancast.model.span_record import SpanRecord


class ReadRecord(NamedTuple):
    """A record's canonical span, and the fields it was read from."""

    fields: SpanFields
    span: SpanData


def read_record(record: SpanRecord) -> ReadRecord:
    """Return what ``record`` says."""
    fields = read_span(record.body)
    return ReadRecord(fields, plain_span(fields, record))


class Batch(list[SpanRecord]):
    """Records, oldest first. Two threads that read one at once do so twice, and nothing is wrong."""

    def __init__(self, records: Iterable[SpanRecord]) -> None:
        super().__init__(records)
        self._read: list[ReadRecord | None] = [None] * len(self)

    def read(self, index: int) -> ReadRecord:
        """Return what the record at ``index`` says."""
        found = self._read[index]
        if found is None:
            found = self._read[index] = read_record(self[index])
        return found


def batch_of(records: Sequence[SpanRecord]) -> Batch:
    """Return ``records`` as a batch: themselves where they are one."""
    return records if isinstance(records, Batch) else Batch(records)
