"""The protocol of a destination: an encoder, one delivery, one connection test; and the outcomes of a delivery.

The answer of a server is returned as an outcome, not raised. An exception counts as ``Failed`` for the batch
(``export/division.py``). The types that an author of a destination needs are all exported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from spancast.encoding.protocol import Encoder, Encoding, Payload

__all__: Final = [
    "Delivered",
    "Destination",
    "Encoder",
    "Encoding",
    "Failed",
    "Failure",
    "Outcome",
    "PartlyDelivered",
    "Payload",
    "Rejected",
    "Retry",
    "after",
]


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination took the batch, except ``rejected`` spans of it (OTLP partial success).

    If it is known which, ``rejected_spans`` has their trace and span ids in hex, and they become dead letters.
    """

    rejected: int = 0
    message: str = ""
    rejected_spans: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Retry:
    """The same batch is to be sent again, not before ``after_s`` seconds if the destination named a time."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The destination rejects the batch permanently.

    With ``too_large`` or ``invalid_content`` (of one span, say) the batch is sent again in halves. Without them
    the destination would reject any batch (a wrong address).
    """

    reason: str
    too_large: bool = False
    invalid_content: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The delivery failed for an unknown reason, for example by an exception.

    The cause may be one span of the batch, or nothing in the batch.
    """

    reason: str


Failure: TypeAlias = Retry | Rejected | Failed


@dataclass(frozen=True, slots=True)
class PartlyDelivered:
    """The destination took some spans of the batch; the others have the outcome ``rest``.

    Only the others are sent again, also by another process. ``rejected`` has the reasons of spans that the
    destination does not take: they become dead letters. Both have trace and span ids in hex.
    """

    rest: Failure
    delivered: frozenset[tuple[str, str]] = frozenset()
    rejected: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])


Outcome: TypeAlias = Delivered | PartlyDelivered | Failure


def after(delivered: Iterable[tuple[str, str]], failure: Failure) -> PartlyDelivered | Failure:
    """Return the outcome of a batch that failed after ``delivered``, the ids of spans, of which there may be none."""
    taken = frozenset(delivered)
    return PartlyDelivered(failure, taken) if taken else failure


class DeliversPayloads(Protocol):
    """The required method of a user's own destination: ``configure(destinations={"mine": obj})``.

    Optional are the methods ``test_connection(timeout_s)`` and ``close()`` (called when it is replaced), the limits
    ``max_batch_spans`` and ``max_batch_bytes``, and the text ``place``, the address that it sends to. Without
    ``place`` queued spans are delivered by this program only.
    """

    def deliver(self, payload: Payload, timeout_s: float, /) -> Outcome | None:
        """Send one batch within ``timeout_s`` seconds and return the outcome; None is ``Delivered()``.

        An exception counts as ``Failed``: the batch is sent again in halves.
        """
        ...


class Destination(Protocol):
    """A destination of batches, one object per configured entry. ``close`` is called once, at shutdown.

    Attributes ``max_batch_spans`` and ``max_batch_bytes`` (the size of the queued records) limit its batches.
    """

    @property
    def encoder(self) -> Encoder:
        """Return the encoder of its payloads."""
        ...

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Send one batch within ``timeout_s`` seconds and return the outcome."""
        ...

    def test_connection(self, timeout_s: float) -> Outcome:
        """Return whether the destination would accept spans, as OpenRouter's Test Connection does."""
        ...

    def close(self) -> None:
        """Release connections; nothing is delivered afterwards."""
        ...
