"""Measurements of delivery: many destinations, a dead destination, and the spool."""

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
    ("burst", 1), ("sdk", 1), ("sdk", 4), ("sdk", 8),
)  # fmt: skip
SPANS = 3_000
_WARM_UP = 500
_ROUNDS = 3
_OUTAGE_SPANS = 1_000_000
_OUTAGE_PARTS = 10
_OUTAGE_S = 600.0
_SPOOL_BATCHES = 60
RECOVERED_RECORDS = 100_000
_MIN_SHARE, _MAX_SHARE = 0.05, 0.2
"""Bounds of the share of spans that arrives at a sampling rate of 0.1."""

Role = tuple[str, int]


@dataclass(kw_only=True)
class Fanout:
    """``runs`` has one run of each role per round; ``failures`` has the reason of each failed measurement."""

    rounds: int
    runs: dict[Role, list[dict[str, float]]] = field(default_factory=dict)
    spool: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    recovery: list[dict[str, Any]] = field(default_factory=list)
    outage: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def costs(self, role: Role) -> list[float]:
        """Return the CPU time per span of each run, in µs at full speed of the core (see ``timing.probe``)."""
        full = min((one["probe"] for runs in self.runs.values() for one in runs if one), default=0.0)
        return [one["cpu_us"] * full / one["probe"] for one in self.runs.get(role, ()) if one]

    def rate(self, role: Role) -> float | None:
        """Return the median of the spans per second, end to end."""
        rates = [one["spans_per_s"] for one in self.runs.get(role, ()) if one]
        return statistics.median(rates) if rates else None

    def ratio(self, role: Role, to: Role) -> tuple[float, float, float] | None:
        """Return the median, minimum and maximum of the ratios within one round."""
        pairs = zip(self.runs.get(role, ()), self.runs.get(to, ()), strict=False)
        found = [mine["cpu_us"] / mine["probe"] * its["probe"] / its["cpu_us"] for mine, its in pairs if mine and its]
        return (statistics.median(found), min(found), max(found)) if found else None


def measure(
    *, rounds: int = _ROUNDS, spans: int = SPANS, outage_spans: int = _OUTAGE_SPANS, records: int = RECOVERED_RECORDS
) -> Fanout:
    """Run all measurements; ``failures`` has the errors of those that failed."""
    found = Fanout(rounds=rounds)
    with receiver(max(count for _, count in ROLES)) as ports:
        for index in range(rounds):
            started = time.monotonic()
            for role in ROLES if index % 2 else reversed(ROLES):
                _run(found, role, spans, ports)
            print(f"fan-out {index + 1} of {rounds}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    for _ in range(rounds):
        for name in ("on disk", "in memory"):
            with _collect_failure(found, f"spool {name}"):
                run = forked(spooling.throughput, name == "in memory", _SPOOL_BATCHES)
                found.spool.setdefault(name, []).append(run)
    for _ in range(min(rounds, 3)):
        with _collect_failure(found, "recovery"):
            found.recovery.append(spooling.recovery(records))
    if outage_spans:
        with _collect_failure(found, "outage"):
            found.outage = forked(delivery.outage, outage_spans, _OUTAGE_PARTS, timeout_s=_OUTAGE_S)
    print("fan-out: done", file=sys.stderr, flush=True)
    return found


def _run(found: Fanout, role: Role, spans: int, ports: list[int]) -> None:
    name, count = role
    run: dict[str, Any] = {}
    with _collect_failure(found, f"{name}, {count}"):
        run = forked(delivery.run, name, spans, ports[:count])
    found.runs.setdefault(role, []).append(run)
    for index, port in enumerate(ports[:count]):
        calls, sent = report(port, {})["calls"], spans + _WARM_UP
        is_dead = name == "one_dead" and index == 0
        least, most = (_MIN_SHARE, _MAX_SHARE) if name == "sampled" else (0.0, 0.0) if is_dead else (1.0, 1.0)
        if run and not least * sent <= calls <= most * sent:
            found.failures[f"{name}, {count}"] = f"destination {index} received {calls} of {sent} spans"


class _collect_failure:  # noqa: N801 - used as a function
    """Context manager that stores a failure of its block, prints it on stderr and continues."""

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
