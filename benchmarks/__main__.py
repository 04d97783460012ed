"""``python -m benchmarks``: measure, print, and (all of it) write docs/performance.md; ``make bench`` runs it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks import fanout, footprint, instructions, pages, short_form
from benchmarks.candidates import OWN, PEERS
from benchmarks.cases import ALL, CURVES
from benchmarks.measure import measure

_TURNS = 3
_PEER_TURNS = 2
_CURVE_TURNS = 2
_CURVE_VISIT_S = 0.6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some 90 s; fails where a ratio to bare has doubled")
    parser.add_argument("--count", action="store_true", help="count instructions by Valgrind instead, and keep them")
    parser.add_argument("--cases", help=f"of {','.join(ALL)}", default="")
    parser.add_argument("--peers", help=f"of {','.join(PEERS)}, or none", default="")
    parser.add_argument("--turns", type=int, default=_TURNS, help="processes of bare and spancast for each case")
    parser.add_argument("--peer-turns", type=int, default=_PEER_TURNS, help="and of each peer")
    parser.add_argument("--no-curves", action="store_true")
    parser.add_argument("--no-fanout", action="store_true", help="nothing of delivery, spool and dead destinations")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md even where a part was left out")
    parser.add_argument("--baseline", action="store_true", help="store this run's ratios for --quick")
    given = parser.parse_args()
    if given.quick:
        return short_form.run(store=given.baseline)
    cases = _chosen(given.cases, ALL)
    peers = [] if given.peers == "none" else _chosen(given.peers, PEERS)
    if given.count:
        return _count([name for name in cases if name in instructions.CASES], peers, is_all=not given.cases)
    curves = {} if given.no_curves else CURVES
    started = time.time()
    run = pages.Run(
        # First, while this process has loaded little that its children would inherit.
        fanout=None if given.no_fanout else fanout.measure(),
        footprint=footprint.measure(_TURNS),
        cases=measure(cases, [*OWN, *peers], turns=given.turns, peer_turns=given.peer_turns),
        curves={
            name: measure(points, ("bare", "spancast"), turns=_CURVE_TURNS, visit_s=_CURVE_VISIT_S)
            for name, points in curves.items()
        },
        turns=given.turns,
        peer_turns=given.peer_turns,
        command=" ".join(["make bench", *([f"ARGS='{' '.join(sys.argv[1:])}'"] if sys.argv[1:] else [])]),
        seconds=0.0,
    )
    run.seconds = time.time() - started
    print(pages.terminal(run))
    if given.baseline:
        short_form.keep(short_form.ratios(run.cases))
    if given.write or (len(cases) == len(ALL) and len(peers) == len(PEERS) and curves and run.fanout):
        for path in pages.write(run):
            print(f"written: {path}")
    broken = short_form.validation_errors(run.cases)
    for told in broken:
        print(told, file=sys.stderr)
    return 1 if broken else 0


def _count(cases: Sequence[str], peers: Sequence[str], *, is_all: bool) -> int:
    if lacking := instructions.missing():
        print(f"not installed: {', '.join(lacking)} (apt-get install valgrind)", file=sys.stderr)
        return 1
    found = instructions.count(cases, peers)
    print(instructions.table(found))
    if is_all:
        instructions.keep(found)
    return 0


def _chosen(given: str, allowed: Sequence[str]) -> list[str]:
    names = [name for name in given.split(",") if name] or list(allowed)
    for name in names:
        if name not in allowed:
            raise SystemExit(f"{name!r} is none of {', '.join(allowed)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
