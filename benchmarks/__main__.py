"""``python -m benchmarks``: measure, print, and (all of it) write docs/performance.md; ``make bench`` runs it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import footprint, pages
from benchmarks.cases import ALL, CURVES, FIRST_SIX
from benchmarks.contestants import CONTESTANTS, PEERS
from benchmarks.environments import CACHE
from benchmarks.measure import Result, receiver, run_case

BASELINE = Path(__file__).parent / "baseline.json"
_DOUBLED = 2.0
_QUICK_ROUNDS = 5
_AGAIN_ROUNDS = 9
_FEW_ROUNDS = 5
_OWN = ("bare", "spancast")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute; fails where a ratio to bare has doubled")
    parser.add_argument("--cases", help=f"of {','.join(ALL)}", default="")
    parser.add_argument("--peers", help=f"of {','.join(PEERS)}, or none", default="")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-curves", action="store_true")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md even where a part was left out")
    parser.add_argument("--baseline", action="store_true", help="store this run's ratios for --quick")
    given = parser.parse_args()
    if given.quick:
        return quick(store=given.baseline)
    cases = _chosen(given.cases, ALL)
    peers = [] if given.peers == "none" else _chosen(given.peers, PEERS)
    curves = {} if given.no_curves else CURVES
    started = time.time()
    measured = measure(cases, [*_OWN, *peers], given.rounds)
    fewer = max(_FEW_ROUNDS, given.rounds // 2)
    grown = {name: measure(points, _OWN, fewer) for name, points in curves.items()}
    prints = footprint.measure(fewer)
    CACHE.mkdir(parents=True, exist_ok=True)
    command = " ".join(["make bench", *([f"ARGS='{' '.join(sys.argv[1:])}'"] if sys.argv[1:] else [])])
    run = pages.Run(
        cases=measured, curves=grown, footprint=prints, rounds=given.rounds, curve_rounds=fewer, command=command,
        seconds=time.time() - started,
    )  # fmt: skip
    print(pages.table(run))
    if given.baseline:
        store_baseline(ratios(measured))
    if given.write or (len(cases) == len(ALL) and len(peers) == len(PEERS) and curves):
        for path in pages.write(run):
            print(f"written: {path}")
    return 1 if _problems(measured) else 0


def measure(cases: Sequence[str], contestants: Sequence[str], rounds: int) -> dict[str, dict[str, Result]]:
    """Run every case; say on stderr how far it is."""
    everybody = dict.fromkeys([*(CONTESTANTS[one].baseline for one in contestants), *contestants])
    with receiver(len(everybody)) as numbers:
        ports = dict(zip(everybody, numbers, strict=True))
        measured: dict[str, dict[str, Result]] = {}
        for case in cases:
            started = time.monotonic()
            measured[case] = run_case(case, contestants, rounds, ports)
            print(f"{case}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return measured


def quick(*, store: bool) -> int:
    """Measure the six cases against bare, print, and compare with the stored ratios."""
    measured = measure(FIRST_SIX, _OWN, _QUICK_ROUNDS)
    now = ratios(measured)
    if store:
        store_baseline(now)
    before = json.loads(BASELINE.read_text())["ratios"]
    doubled = [name for name in now if now[name] > _DOUBLED * before.get(name, float("inf"))]
    # A neighbour's work can double anything once; twice is a finding.
    again = sorted({name.partition(" ")[0] for name in doubled})
    if again:
        now.update(ratios(measure(again, _OWN, _AGAIN_ROUNDS)))
        doubled = [name for name in doubled if now[name] > _DOUBLED * before[name]]
    print(f"{'ratio to bare':24}{'now':>8}{'stored':>8}")
    for name, ratio in now.items():
        mark = "  DOUBLED" if name in doubled else ""
        print(f"{name:24}{ratio:8.2f}{before.get(name, float('nan')):8.2f}{mark}")
    return 1 if doubled or _problems(measured) else 0


def ratios(measured: dict[str, dict[str, Result]]) -> dict[str, float]:
    """Return spancast's cost as a part of bare's, by case and kind of time."""
    found: dict[str, float] = {}
    for case, results in measured.items():
        for kind in ("thread", "process"):
            ours, bare = results["spancast"].median(kind), results["bare"].median(kind)
            if ours is not None and bare is not None and min(bare, ours) > 0:
                found[f"{case} {kind}"] = round(ours / bare, 3)
    return found


def store_baseline(found: dict[str, float]) -> None:
    kept: dict[str, Any] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"ratios": {}}
    kept["ratios"].update(found)
    kept["made_by"] = "python -m benchmarks --baseline"
    BASELINE.write_text(json.dumps(kept, indent=2) + "\n")


def _problems(measured: dict[str, dict[str, Result]]) -> bool:
    found = False
    for case, results in measured.items():
        for one in _OWN:
            result = results.get(one)
            if result is not None and (result.failure or result.missing()):
                print(
                    f"{case}, {one}: {result.failure or f'missing {result.missing()} {result.received}'}",
                    file=sys.stderr,
                )
                found = True
    return found


def _chosen(given: str, allowed: Sequence[str]) -> list[str]:
    names = [name for name in given.split(",") if name] or list(allowed)
    for name in names:
        if name not in allowed:
            raise SystemExit(f"{name!r} is none of {', '.join(allowed)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
