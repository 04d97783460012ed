"""The typed counts that ``spancast.stats()`` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from spancast.diagnostics import Count


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationStats:
    """Spans of one destination since the process started; ``queued`` and ``queued_bytes`` are the current values.

    ``retries`` counts batches, ``filter_timeouts`` evaluations of a regular expression. ``rejected`` are spans of
    an OTLP partial success. ``dropped`` is by reason. Of the ``delivered`` spans, ``delivered_by_others`` were
    delivered by another process that shares the spool, and ``delivered_for_others`` were made by another or an earlier
    one.
    """

    delivered: int = 0
    delivered_by_others: int = 0
    delivered_for_others: int = 0
    sampled_out: int = 0
    filtered: int = 0
    non_genai: int = 0
    rejected: int = 0
    dead_lettered: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    queued: int = 0
    queued_bytes: int = 0
    retries: int = 0
    filter_timeouts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts of this process; ``queued`` is the current number of spans on their way to the spool.

    Each of the ``received`` spans is either in ``dropped`` (by reason) or ``queued``, or it is, at each destination,
    delivered, sampled out, filtered, not GenAI, rejected, dead-lettered, dropped or queued. ``spool_...`` counts
    events of the spool's file, except ``spool_memory_fallback`` and ``spool_corrupt_records``, which are spans.
    """

    received: int = 0
    queued: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    destinations: Mapping[str, DestinationStats] = field(default_factory=dict[str, DestinationStats])
    spans_started: int = 0
    spans_failed: int = 0
    calls_suppressed: int = 0
    calls_merged: int = 0
    keys_not_traced: int = 0
    requests_not_read: int = 0
    groups_evicted: int = 0
    group_texts_evicted: int = 0
    validation_errors: int = 0
    redaction_errors: int = 0
    internal_errors: int = 0
    patches_not_found: int = 0
    spool_unavailable: int = 0
    spool_memory_fallback: int = 0
    spool_corrupt_files: int = 0
    spool_corrupt_records: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as nested dicts that ``json.dumps`` accepts."""
        return asdict(self)


_NAMES: Final = frozenset(one.name for one in fields(Stats))
_DESTINATION_NAMES: Final = frozenset(one.name for one in fields(DestinationStats))


def stats_of(counts: Mapping[Count, int], queued: int, queues: Mapping[str, tuple[int, int]]) -> Stats:
    """Return ``counts`` as ``Stats``; ``queues`` has the queued spans and bytes of each destination."""
    own: dict[str, Any] = {"queued": queued}
    dropped: dict[str, int] = {}
    destinations: dict[str, dict[str, Any]] = {
        name: {"queued": spans, "queued_bytes": size} for name, (spans, size) in queues.items()
    }
    for (name, destination, reason), count in counts.items():
        if destination:
            of_destination = destinations.setdefault(destination, {})
            if reason:
                of_destination.setdefault(name, {})[reason] = count
            elif name in _DESTINATION_NAMES:
                of_destination[name] = count
        elif reason:
            dropped[reason] = count
        elif name in _NAMES:
            own[name] = count
    return Stats(
        **own,
        dropped=dropped,
        destinations={name: DestinationStats(**values) for name, values in destinations.items()},
    )
