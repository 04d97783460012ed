"""What the page asks of the spool: where spans are, and commands that send them again. Implemented by the CLI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

Action: TypeAlias = Literal["retry", "requeue", "purge", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationState:
    """The queue of one destination; ``problem`` is why spans wait, ``about`` its type and address."""

    name: str
    about: str
    queued: int
    queued_size: str
    dead_lettered: int
    dropped: int
    delivered: int
    last_delivered_s: float
    problem: str
    is_configured: bool
    """Whether the current configuration has it, so that the page can send to it."""
    page: str = ""
    """The address of the destination's own page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Spans of one trace that a destination refused or that were dropped, for one reason."""

    destination: str
    reason: str
    trace_id: str
    sequences: Sequence[int]
    at_s: float
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """The state of some spans of a trace at one destination; ``sequences`` are their numbers in the spool."""

    destination: str
    state: str
    reason: str
    at_s: float
    span_ids: frozenset[str]
    sequences: Sequence[int]
    link: str = ""
    """The address of the trace in the destination's own page."""
    is_configured: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All destinations of a spool; ``unknown`` is why nothing is known of them."""

    path: str = ""
    usage: str = ""
    destinations: Sequence[DestinationState] = field(default_factory=list[DestinationState])
    refused: Sequence[Refused] = field(default_factory=list[Refused])
    unknown: str = ""


class Deliveries(Protocol):
    """The spool beside a store."""

    def overview(self) -> Overview:
        """Return the state of every destination."""
        ...

    def of_trace(self, trace_id: str) -> tuple[list[Fate], str]:
        """Return where the spans of a trace are, and why nothing is known (else empty)."""
        ...

    def act(self, action: Action, destination: str, sequences: Sequence[int], trace_id: str) -> str:
        """Send or drop spans; return a sentence about the result. Empty ``sequences`` are all of the destination."""
        ...
