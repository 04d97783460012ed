"""``python -m benchmarks`` (``make bench``): measure, print, and write docs/performance.md if the run is complete."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks import crowds, fanout, footprint, instructions, pages, short_form
from benchmarks.candidates import OWN, PEERS
from benchmarks.cases import ALL, CURVES
from benchmarks.measure import measure

_ROUNDS = 3
_PEER_ROUNDS = 1
_CURVE_ROUNDS = 2
_CURVE_DURATION_S = 0.6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run for about 90 s; fail if a ratio to bare doubled")
    parser.add_argument("--count", action="store_true", help="count instructions with Valgrind instead, and store them")
    parser.add_argument("--cases", help=f"comma-separated, from {','.join(ALL)}", default="")
    parser.add_argument("--peers", help=f"comma-separated, from {','.join(PEERS)}; or none", default="")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="processes of bare and spancast per case")
    parser.add_argument("--peer-rounds", type=int, default=_PEER_ROUNDS, help="processes of each peer per case")
    parser.add_argument("--no-curves", action="store_true")
    parser.add_argument("--no-fanout", action="store_true", help="skip delivery, spool, dead destinations and crowds")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md even if the run is partial")
    parser.add_argument("--baseline", action="store_true", help="store this run's ratios for --quick")
    options = parser.parse_args()
    if options.quick:
        return short_form.run(store=options.baseline)
    cases = _selected(options.cases, ALL)
    peers = [] if options.peers == "none" else _selected(options.peers, PEERS)
    if options.count:
        return _count([name for name in cases if name in instructions.CASES], peers, is_all=not options.cases)
    curves = {} if options.no_curves else CURVES
    started = time.time()
    run = pages.Run(
        # First: children inherit the modules that this process has loaded.
        fanout=None if options.no_fanout else fanout.measure(),
        crowds=None if options.no_fanout else crowds.measure(),
        footprint=footprint.measure(_ROUNDS),
        cases=measure(cases, [*OWN, *peers], rounds=options.rounds, peer_rounds=options.peer_rounds),
        curves={
            name: measure(points, ("bare", "spancast"), rounds=_CURVE_ROUNDS, duration_s=_CURVE_DURATION_S)
            for name, points in curves.items()
        },
        rounds=options.rounds,
        peer_rounds=options.peer_rounds,
        command=" ".join(["make bench", *([f"ARGS='{' '.join(sys.argv[1:])}'"] if sys.argv[1:] else [])]),
        seconds=0.0,
    )
    run.seconds = time.time() - started
    print(pages.terminal(run))
    print(f"took {run.seconds / 60:.0f} minutes", file=sys.stderr)
    if options.baseline:
        short_form.store_ratios(short_form.ratios(run.cases))
    if options.write or (len(cases) == len(ALL) and len(peers) == len(PEERS) and curves and run.fanout):
        for path in pages.write(run):
            print(f"wrote {path}")
    failures = short_form.failures(run.cases)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _count(cases: Sequence[str], peers: Sequence[str], *, is_all: bool) -> int:
    if programs := instructions.missing():
        print(f"not installed: {', '.join(programs)} (apt-get install valgrind)", file=sys.stderr)
        return 1
    found = instructions.count(cases, peers)
    print(instructions.table(found))
    if is_all:
        instructions.store(found)
    return 0


def _selected(text: str, allowed: Sequence[str]) -> list[str]:
    names = [name for name in text.split(",") if name] or list(allowed)
    for name in names:
        if name not in allowed:
            raise SystemExit(f"expected one of {', '.join(allowed)}, got {name!r}")
    return names


if __name__ == "__main__":
    sys.exit(main())
