"""The short form for CI: six cases against bare; fails only where a ratio has doubled, twice, beyond the noise."""

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
_WHO = ("bare", "spancast")
_DOUBLED = 2.0
_TURNS = 2
_VISIT_S = 0.3
_FLOOR = 0.01
"""Bare below this part of the plain call is noise, whatever the ratio."""


def run(*, store: bool) -> int:
    """Measure, print, compare with the stored ratios; returns the exit code."""
    measured = measure(FIRST_SIX, _WHO, turns=_TURNS, visit_s=_VISIT_S)
    broken = validation_errors(measured)
    if store:
        keep(ratios(measured))
    before: dict[str, float] = json.loads(BASELINE.read_text())["ratios"]
    doubled = worse(measured, before)
    print(table(measured, before, doubled))
    if doubled:
        # A neighbour's work can double anything once; twice is a finding.
        again = measure(sorted({case for case, _ in doubled}), _WHO, turns=_TURNS + 1, visit_s=_VISIT_S)
        doubled &= worse(again, before)
        print(f"\nmeasured again, {len(doubled)} still doubled:\n{table(again, before, doubled)}")
    for told in broken:
        print(told)
    return 1 if doubled or broken else 0


def worse(measured: Results, before: Mapping[str, float]) -> set[tuple[str, str]]:
    """Return the cases and kinds whose every process found more than twice the stored ratio.

    Nothing is said where bare costs too little beside the plain call to divide by.
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
    """Return spancast's cost as a part of bare's, by case and kind of time."""
    found: dict[str, float] = {}
    for case, results in measured.items():
        for kind in KINDS:
            now = ratio(results["spancast"], results["bare"], kind)
            if now is not None and now[0] > 0:
                found[f"{case} {kind}"] = round(now[0], 3)
    return found


def keep(found: Mapping[str, float]) -> None:
    """Store ratios for later runs to be compared with."""
    kept: dict[str, Any] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"ratios": {}}
    kept["ratios"].update(found)
    kept["made_by"] = "python -m benchmarks --baseline"
    BASELINE.write_text(json.dumps(kept, indent=2) + "\n")


def table(measured: Results, before: Mapping[str, float], doubled: Iterable[tuple[str, str]]) -> str:
    """Return the lines CI prints: costs above the plain call, ratios now and then."""
    marked = set(doubled)
    lines = [f"{'':30}{'plain µs':>10}{'bare µs':>10}{'spancast':>10}{'ratio':>8}{'(from to)':>14}{'stored':>8}"]
    for case, results in measured.items():
        bare, ours = results["bare"], results["spancast"]
        for kind in KINDS:
            now = ratio(ours, bare, kind)
            told = f"{now[0]:8.2f}{f'({now[1]:.2f} {now[2]:.2f})':>14}" if now else f"{'noise':>8}{'':14}"
            costs = f"{bare.plain:10.0f}{bare.median(kind) or 0:10.0f}{ours.median(kind) or 0:10.0f}"
            stored = before.get(f"{case} {kind}", float("nan"))
            mark = "  DOUBLED" if (case, kind) in marked else ""
            lines.append(f"{f'{case_of(case).title}, {kind}':30}{costs}{told}{stored:8.2f}{mark}")
    return "\n".join(lines)


def validation_errors(measured: Results) -> list[str]:
    """Say where bare or spancast failed, or told too little."""
    return [
        f"{case}, {one}: {result.failure or f'missing {result.missing()} {result.received}'}"
        for case, results in measured.items()
        for one, result in results.items()
        if one != "none" and one.startswith(("bare", "spancast")) and (result.failure or result.missing())
    ]
