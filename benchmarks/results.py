"""What was found of one contestant in one case, and which of it counts."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

EVEN = 1.25
"""A quad counts where its probes are no further apart than this: the core had one speed meanwhile."""
_LEAST = 0.1


@dataclass(kw_only=True)
class Result:
    """Microseconds per call above the twin, and what the receiver got of it."""

    candidate: str
    calls: int = 0
    visits: list[dict[str, Any]] = field(default_factory=list)
    """What each process gave: ``quads`` and ``batches``."""
    received: dict[str, int] = field(default_factory=dict)
    failure: str = ""
    reference: float = 0.0
    """Microseconds of the probe at full speed, the same for all of a run."""

    def take(self, found: dict[str, Any]) -> None:
        self.calls += found["calls"]
        self.visits.append(found)

    def counts(self, one: Mapping[str, float]) -> bool:
        """Tell whether a quad was undisturbed; nothing of the contestant's own is asked."""
        return not one["stolen"] and one["uneven"] <= EVEN

    def counted(self) -> list[dict[str, float]]:
        return [one for visit in self.visits for one in visit["quads"] if self.counts(one)]

    def taken(self) -> int:
        return sum(len(visit["quads"]) for visit in self.visits)

    def scaled(self, taken: Iterable[Mapping[str, float]], kind: str, by: str = "probe") -> list[float]:
        """Return what ``kind`` was at full speed, told ``by`` the probe or the twin; by ``nothing``, as taken."""
        if by == "nothing":
            return [one[kind] for one in taken]
        if by == "baseline":
            every = [one["baseline"] for visit in self.visits for one in visit["quads"]]
            usual = statistics.median(every)
            return [one[kind] * usual / one["baseline"] if one.get("baseline") else one[kind] for one in taken]
        return [one[kind] * self.reference / one["probe"] for one in taken]

    def by_process(self, kind: str) -> list[float]:
        """Return the median of each process."""
        found: list[float] = []
        for visit in self.visits:
            value = self._median([visit], kind)
            if value is not None:
                found.append(value)
        return found

    def median(self, kind: str, by: str = "probe") -> float | None:
        """Return the median of all quads that count, plus that of all batches for the whole process."""
        return self._median(self.visits, kind, by)

    def _median(self, visits: Sequence[Mapping[str, Any]], kind: str, by: str = "probe") -> float | None:
        quads = [one for visit in visits for one in visit["quads"] if self.counts(one)]
        if not quads:
            return None
        middle = statistics.median(self.scaled(quads, "wall" if kind == "wall" else "thread", by))
        if kind != "process":
            return middle
        # Counted, not compared: a batch of which a part ran slower is scaled like any other.
        return middle + statistics.median(
            self.scaled([one for visit in visits for one in visit["batches"]], "background", by)
        )

    def spread(self, kind: str) -> tuple[float, float]:
        """Return the least and the greatest of the processes' medians."""
        found = self.by_process(kind) or [0.0]
        return min(found), max(found)

    def is_clear(self, kind: str) -> bool:
        """Tell whether the cost stands out of the noise: no process found it below nothing."""
        return bool(self.by_process(kind)) and self.spread(kind)[0] > 0

    @property
    def plain(self) -> float:
        """Return what the plain call took."""
        return statistics.median(self.scaled(self.counted(), "baseline") or [0.0])

    def missing(self) -> list[str]:
        """Name the pieces that not every call's record held."""
        pieces = {piece: count for piece, count in self.received.items() if piece not in {"requests", "bytes"}}
        return [piece for piece, count in pieces.items() if count < self.calls]


def refer(results: Iterable[Result]) -> None:
    """Set the reference of all of a run: a tenth of its probes took less."""
    every = [result for result in results if result.visits]
    probes = sorted(one["probe"] for result in every for visit in result.visits for one in visit["quads"])
    for result in every:
        result.reference = probes[int(len(probes) * _LEAST)]


def ratio(one: Result, other: Result, kind: str) -> tuple[float, float, float] | None:
    """Return how many times ``other`` costs ``one`` does, with the least and greatest of processes of one turn."""
    top, bottom = one.median(kind), other.median(kind)
    if top is None or bottom is None or top <= 0 or bottom <= 0 or not other.is_clear(kind):
        return None
    turns = [mine / its for mine, its in zip(one.by_process(kind), other.by_process(kind), strict=False) if its > 0]
    found = top / bottom
    return found, min([found, *turns]), max([found, *turns])


def otherwise(one: Result, other: Result, kind: str) -> str:
    """Return the same ratio with nothing scaled, and scaled by the twin: what it owes to the probe."""
    found: list[str] = []
    for by in ("nothing", "baseline"):
        top, bottom = one.median(kind, by), other.median(kind, by)
        found.append(f"{top / bottom:.2f}" if top is not None and bottom and bottom > 0 else "noise")
    return ", ".join(found)
