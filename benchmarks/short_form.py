"""The short benchmark for CI: six cases against bare. Fails only if a ratio doubled in two runs, beyond the noise."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.cases import FIRST_SIX, case_of
from benchmarks.measure import Results, measure
from benchmarks.results import ratio

BASELINE = Path(__file__).parent / "baseline.json"
KINDS = ("thread", "process")
_COMPARED = ("bare", "spancast")
_DOUBLED = 2.0
_ROUNDS = 2
_DURATION_S = 0.3
_FLOOR = 0.01
"""A cost of bare below this share of the plain call is noise."""


def run(*, store: bool) -> int:
    """Measure, print and compare with the stored ratios; return the exit code."""
    measured = measure(FIRST_SIX, _COMPARED, rounds=_ROUNDS, duration_s=_DURATION_S)
    failed = failures(measured)
    if store:
        store_ratios(ratios(measured))
    before: dict[str, float] = json.loads(BASELINE.read_text())["ratios"]
    doubled = worse(measured, before)
    print(table(measured, before, doubled))
    if doubled:
        # Other load on the machine can double a ratio once.
        again = measure(sorted({case for case, _ in doubled}), _COMPARED, rounds=_ROUNDS + 1, duration_s=_DURATION_S)
        doubled &= worse(again, before)
        print(f"\nmeasured again, {len(doubled)} still doubled:\n{table(again, before, doubled)}")
    for failure in failed:
        print(failure)
    return 1 if doubled or failed else 0


def worse(measured: Results, before: Mapping[str, float]) -> set[tuple[str, str]]:
    """Return the cases and kinds whose ratio is more than twice the stored one in every process.

    A case is skipped if bare's cost is too small, compared with the plain call, to divide by.
    """
    found: set[tuple[str, str]] = set()
    for case, results in measured.items():
        bare, ours = results["bare"], results["spancast"]
        for kind in KINDS:
            stored, now, cost = before.get(f"{case} {kind}"), ratio(ours, bare, kind), bare.median(kind)
            if stored is None or now is None or cost is None or cost < _FLOOR * bare.plain:
                continue
            if ours.spread(kind)[0] > _DOUBLED * stored * bare.spread(kind)[1]:
                found.add((case, kind))
    return found


def ratios(measured: Results) -> dict[str, float]:
    """Return the ratio of spancast's cost to bare's, by case and kind of time."""
    found: dict[str, float] = {}
    for case, results in measured.items():
        for kind in KINDS:
            now = ratio(results["spancast"], results["bare"], kind)
            if now is not None and now[0] > 0:
                found[f"{case} {kind}"] = round(now[0], 3)
    return found


def store_ratios(found: Mapping[str, float]) -> None:
    """Store the ratios that later runs are compared with."""
    content: dict[str, Any] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"ratios": {}}
    content["ratios"].update(found)
    content["made_by"] = "python -m benchmarks --baseline"
    BASELINE.write_text(json.dumps(content, indent=2) + "\n")


def table(measured: Results, before: Mapping[str, float], doubled: Iterable[tuple[str, str]]) -> str:
    """Return the table that CI prints: costs above the plain call, current and stored ratios."""
    marked = set(doubled)
    lines = [f"{'':30}{'plain µs':>10}{'bare µs':>10}{'spancast':>10}{'ratio':>8}{'(from to)':>14}{'stored':>8}"]
    for case, results in measured.items():
        bare, ours = results["bare"], results["spancast"]
        for kind in KINDS:
            now = ratio(ours, bare, kind)
            values = f"{now[0]:8.2f}{f'({now[1]:.2f} {now[2]:.2f})':>14}" if now else f"{'noise':>8}{'':14}"
            costs = f"{bare.plain:10.0f}{bare.median(kind) or 0:10.0f}{ours.median(kind) or 0:10.0f}"
            stored = before.get(f"{case} {kind}", float("nan"))
            mark = "  DOUBLED" if (case, kind) in marked else ""
            lines.append(f"{f'{case_of(case).title}, {kind}':30}{costs}{values}{stored:8.2f}{mark}")
    return "\n".join(lines)


def failures(measured: Results) -> list[str]:
    """Return a line per case in which bare or spancast failed or recorded too little."""
    return [
        f"{case}, {one}: {result.failure or f'missing {result.missing()} {result.received}'}"
        for case, results in measured.items()
        for one, result in results.items()
        if one != "none" and one.startswith(("bare", "spancast")) and (result.failure or result.missing())
    ]
