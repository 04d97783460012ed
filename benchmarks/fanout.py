"""Many destinations, one that is dead, the spool: everything of the posting side, in one run."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks import delivery, spooling
from benchmarks.forked import ChildError, forked
from benchmarks.processes import receiver, report

ROLES: tuple[tuple[str, int], ...] = (
    ("same", 1), ("same", 2), ("same", 4), ("same", 8), ("same", 16),
    ("mixed", 4), ("mixed", 8), ("private", 1), ("sampled", 1), ("sampled", 8), ("one_dead", 2), ("memory", 1),
    ("sdk", 1), ("sdk", 4), ("sdk", 8),
)  # fmt: skip
SPANS = 3_000
_WARM_UP = 500
_ROUNDS = 3
_OUTAGE_SPANS = 1_000_000
_OUTAGE_PARTS = 10
_OUTAGE_S = 600.0
_SPOOL_BATCHES = 60
LEFT = 100_000
_LEAST, _MOST = 0.05, 0.2
"""What may arrive of spans sampled at a tenth."""

Role = tuple[str, int]


@dataclass(kw_only=True)
class Fanout:
    """``taken`` holds one run of each role for each round; ``failures`` what could not be measured."""

    rounds: int
    taken: dict[Role, list[dict[str, float]]] = field(default_factory=dict)
    spool: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    recovery: list[dict[str, Any]] = field(default_factory=list)
    outage: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def costs(self, role: Role) -> list[float]:
        """Return the µs CPU per span of each run, at the full speed of the core: see ``timing.probe``."""
        full = min((one["probe"] for taken in self.taken.values() for one in taken if one), default=0.0)
        return [one["cpu_us"] * full / one["probe"] for one in self.taken.get(role, ()) if one]

    def ratio(self, role: Role, to: Role) -> tuple[float, float, float] | None:
        """Return the median, least and greatest of the ratios within one round."""
        pairs = zip(self.taken.get(role, ()), self.taken.get(to, ()), strict=False)
        found = [mine["cpu_us"] / mine["probe"] * its["probe"] / its["cpu_us"] for mine, its in pairs if mine and its]
        return (statistics.median(found), min(found), max(found)) if found else None


def measure(
    *, rounds: int = _ROUNDS, spans: int = SPANS, outage_spans: int = _OUTAGE_SPANS, left: int = LEFT
) -> Fanout:
    """Run everything; what fails is told in ``failures``."""
    found = Fanout(rounds=rounds)
    with receiver(max(count for _, count in ROLES)) as ports:
        for turn in range(rounds):
            started = time.monotonic()
            for role in ROLES if turn % 2 else reversed(ROLES):
                _run(found, role, spans, ports)
            print(f"fan-out {turn + 1} of {rounds}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    for _ in range(rounds):
        for name in ("on disk", "in memory"):
            with _told(found, f"spool {name}"):
                taken = forked(spooling.throughput, name == "in memory", _SPOOL_BATCHES)
                found.spool.setdefault(name, []).append(taken)
    for _ in range(min(rounds, 3)):
        with _told(found, "recovery"):
            found.recovery.append(spooling.recovery(left))
    if outage_spans:
        with _told(found, "outage"):
            found.outage = forked(delivery.outage, outage_spans, _OUTAGE_PARTS, patience_s=_OUTAGE_S)
    print("fan-out: done", file=sys.stderr, flush=True)
    return found


def _run(found: Fanout, role: Role, spans: int, ports: list[int]) -> None:
    name, count = role
    taken: dict[str, Any] = {}
    with _told(found, f"{name}, {count}"):
        taken = forked(delivery.run, name, spans, ports[:count])
    found.taken.setdefault(role, []).append(taken)
    for index, port in enumerate(ports[:count]):
        calls, made = report(port, {})["calls"], spans + _WARM_UP
        is_dead = name == "one_dead" and index == 0
        least, most = (_LEAST, _MOST) if name == "sampled" else (0.0, 0.0) if is_dead else (1.0, 1.0)
        if taken and not least * made <= calls <= most * made:
            found.failures[f"{name}, {count}"] = f"{calls} of {made} spans came at destination {index}"


class _told:  # noqa: N801 - a block, not a thing
    """What goes wrong in the block is told on the page and on stderr; the rest goes on."""

    def __init__(self, found: Fanout, what: str) -> None:
        self._found, self._what = found, what

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, ChildError | OSError):
            return False
        self._found.failures[self._what] = str(error).strip().splitlines()[-1][:200]
        print(f"{self._what}: {error}", file=sys.stderr, flush=True)
        return True
