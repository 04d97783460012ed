"""The seam every destination fills: a view it wants, one delivery, one connection test.

Delivery never raises for what a server answered; the outcome is a value. If it raises all the same, that is a failure
(``Failed``) of this batch, handled as ``export/division.py`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from spancast.encoding.span_data import SpanData
from spancast.model.span_record import SpanRecord


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination took the batch; ``rejected`` spans of it were refused (OTLP partial success)."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try the same batch again, not before ``seconds`` where the destination named a time."""

    reason: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The batch will never be taken as it is.

    ``too_large`` and ``invalid_content`` (something in the batch is not liked) ask for halves instead;
    without them the destination takes nothing at all (a wrong address).
    """

    reason: str
    too_large: bool = False
    invalid_content: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The batch was neither taken nor refused: delivery raised, or no more is known than that it failed.

    One span of the batch may be the cause, or something that has nothing to do with it.
    """

    reason: str


Outcome: TypeAlias = Delivered | Retry | Rejected | Failed

Encoding: TypeAlias = Literal["protobuf", "json"]


class Payload(Protocol):
    """A batch in one view, encoded at first use and shared by all destinations of that view."""

    @property
    def spans(self) -> Sequence[SpanData]:
        """Return the spans as this destination may see them, oldest first."""
        ...

    @property
    def protobuf(self) -> bytes:
        """Return an OTLP ``ExportTraceServiceRequest`` in protobuf."""
        ...

    @property
    def json(self) -> bytes:
        """Return the same in OTLP/JSON (hex ids, 64-bit integers as strings)."""
        ...

    def body(self, encoding: Encoding, *, gzip: bool) -> bytes:
        """Return ``protobuf`` or ``json``, compressed once for all who want it so."""
        ...

    def shortened(self, max_span_bytes: int) -> Payload:
        """Return the same spans, none over ``max_span_bytes``; for what was refused as too large."""
        ...


class Encoder(Protocol):
    """Redaction times convention: what a destination may see, in the words it knows."""

    @property
    def key(self) -> str:
        """Return a text equal for equal views, so that their payloads are shared."""
        ...

    def payload(self, records: Sequence[SpanRecord]) -> Payload:
        """Return the (lazily encoded) payload of ``records`` in this view."""
        ...


class Destination(Protocol):
    """Where batches go. Created per configured entry; ``close`` is called once, at shutdown."""

    @property
    def encoder(self) -> Encoder:
        """Return the view its payloads are encoded in."""
        ...

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Send one batch within ``timeout_s`` seconds and tell what came of it."""
        ...

    def test_connection(self, timeout_s: float) -> Outcome:
        """Ask the destination whether it would take our spans, as OpenRouter's Test Connection does."""
        ...

    def close(self) -> None:
        """Release connections; nothing is delivered afterwards."""
        ...
