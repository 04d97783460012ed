"""The protocols of encoders and payloads: a batch for one destination, as data and as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from spancast.encoding.span_data import SpanData
from spancast.model.span_record import SpanRecord

Encoding: TypeAlias = Literal["protobuf", "json"]


class Payload(Protocol):
    """A batch of one encoder, encoded at first use and shared by all destinations with an equal encoder."""

    @property
    def spans(self) -> Sequence[SpanData]:
        """Return the spans after redaction, convention and truncation, oldest first."""
        ...

    @property
    def protobuf(self) -> bytes:
        """Return an OTLP ``ExportTraceServiceRequest`` in protobuf."""
        ...

    @property
    def json(self) -> bytes:
        """Return the same in OTLP/JSON (hex ids, 64-bit integers as strings)."""
        ...

    @property
    def held_bytes(self) -> int:
        """Return an estimate of the memory of the records and of all that has been made of them so far."""
        ...

    def body(self, encoding: Encoding, *, gzip: bool) -> bytes:
        """Return ``protobuf`` or ``json``, compressed (once) or not."""
        ...

    def truncated(self, max_span_bytes: int) -> Payload:
        """Return the same spans, each truncated to ``max_span_bytes``: used if the batch was rejected as too large."""
        ...


class Encoder(Protocol):
    """Redaction, convention and size limits of one destination."""

    @property
    def cache_key(self) -> str:
        """Return a text that is equal for equal encoders, so that they share payloads."""
        ...

    def payload(self, records: Sequence[SpanRecord]) -> Payload:
        """Return the (lazily encoded) payload of ``records`` of this encoder."""
        ...
