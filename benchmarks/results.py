"""The samples of one candidate in one case, and the statistics over them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_UNEVEN = 1.25
"""Maximum ratio between the probes of a valid sample: the core's speed did not change during it."""
_FULL_SPEED_QUANTILE = 0.1


@dataclass(kw_only=True)
class Result:
    """Microseconds per call above the baseline, and the content that arrived at the receiver."""

    candidate: str
    calls: int = 0
    processes: list[dict[str, Any]] = field(default_factory=list)
    """``samples`` and ``batches`` of each process."""
    received: dict[str, int] = field(default_factory=dict)
    failure: str = ""
    reference: float = 0.0
    """Duration of the probe at full speed, in µs; the same for all results of a run."""

    def add(self, found: dict[str, Any]) -> None:
        self.calls += found["calls"]
        self.processes.append(found)

    def is_valid(self, one: Mapping[str, float]) -> bool:
        """Return True if the sample was undisturbed. The candidate's own times are not considered."""
        return not one["stolen"] and one["uneven"] <= MAX_UNEVEN

    def valid_samples(self) -> list[dict[str, float]]:
        return [one for process in self.processes for one in process["samples"] if self.is_valid(one)]

    def sample_count(self) -> int:
        return sum(len(process["samples"]) for process in self.processes)

    def scaled(self, samples: Iterable[Mapping[str, float]], kind: str, by: str = "probe") -> list[float]:
        """Return the values of ``kind``, scaled to full speed ``by`` the probe or the baseline, or by ``nothing``."""
        if by == "nothing":
            return [one[kind] for one in samples]
        if by == "baseline":
            every = [one["baseline"] for process in self.processes for one in process["samples"]]
            usual = statistics.median(every)
            return [one[kind] * usual / one["baseline"] if one.get("baseline") else one[kind] for one in samples]
        return [one[kind] * self.reference / one["probe"] for one in samples]

    def by_process(self, kind: str) -> list[float]:
        """Return the median of each process that has valid samples."""
        found: list[float] = []
        for process in self.processes:
            value = self._median([process], kind)
            if value is not None:
                found.append(value)
        return found

    def median(self, kind: str, by: str = "probe") -> float | None:
        """Return the median of all valid samples; for ``process``, plus the median of all batches."""
        return self._median(self.processes, kind, by)

    def _median(self, processes: Sequence[Mapping[str, Any]], kind: str, by: str = "probe") -> float | None:
        samples = [one for process in processes for one in process["samples"] if self.is_valid(one)]
        if not samples:
            return None
        median = statistics.median(self.scaled(samples, "wall" if kind == "wall" else "thread", by))
        if kind != "process":
            return median
        # Batches are not filtered: one that partly ran slower is scaled like any other.
        return median + statistics.median(
            self.scaled([one for process in processes for one in process["batches"]], "background", by)
        )

    def spread(self, kind: str) -> tuple[float, float]:
        """Return the minimum and maximum of the processes' medians."""
        found = self.by_process(kind) or [0.0]
        return min(found), max(found)

    def is_clear(self, kind: str) -> bool:
        """Return True if the cost is above the noise: positive in every process."""
        return bool(self.by_process(kind)) and self.spread(kind)[0] > 0

    @property
    def plain(self) -> float:
        """Return the time of the baseline's call, in µs."""
        return statistics.median(self.scaled(self.valid_samples(), "baseline") or [0.0])

    def missing(self) -> list[str]:
        """Return the pieces of content that some records did not contain."""
        pieces = {piece: count for piece, count in self.received.items() if piece not in {"requests", "bytes"}}
        return [piece for piece, count in pieces.items() if count < self.calls]


def set_reference(results: Iterable[Result]) -> None:
    """Set the reference of all results of a run to the 10th percentile of its probes."""
    every = [result for result in results if result.processes]
    probes = sorted(one["probe"] for result in every for process in result.processes for one in process["samples"])
    for result in every:
        result.reference = probes[int(len(probes) * _FULL_SPEED_QUANTILE)]


def ratio(one: Result, other: Result, kind: str) -> tuple[float, float, float] | None:
    """Return the ratio of the costs of ``one`` and ``other``, with its minimum and maximum over the rounds."""
    top, bottom = one.median(kind), other.median(kind)
    if top is None or bottom is None or top <= 0 or bottom <= 0 or not other.is_clear(kind):
        return None
    by_round = [mine / its for mine, its in zip(one.by_process(kind), other.by_process(kind), strict=False) if its > 0]
    found = top / bottom
    return found, min([found, *by_round]), max([found, *by_round])


def unscaled_ratios(one: Result, other: Result, kind: str) -> str:
    """Return the same ratio unscaled, and scaled by the baseline, to show the effect of the probe."""
    found: list[str] = []
    for by in ("nothing", "baseline"):
        top, bottom = one.median(kind, by), other.median(kind, by)
        found.append(f"{top / bottom:.2f}" if top is not None and bottom and bottom > 0 else "noise")
    return ", ".join(found)
