"""Calls of greenlets: ``python gevent_program.py FOLDER before|after``, when gevent replaces the standard library.

Prints whether everything was delivered, and how many spans.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(folder: str, when: str) -> None:
    if when == "before":
        _patch()
    import spancast

    spancast.configure(
        spool={"path": f"{folder}/spool"},
        destinations={"one": {"type": "file", "path": str(Path(folder, "out.jsonl"))}},
    )
    complete = spancast.instrument(lambda **_: "hi")

    def ask(model: str) -> None:
        complete(model=model, messages=[{"role": "user", "content": "hi"}])

    ask("first")
    if when == "after":
        _patch()
    import gevent

    def twice(number: int) -> None:
        ask(f"m{number}")
        gevent.sleep(0)
        ask(f"n{number}")

    gevent.joinall([gevent.spawn(twice, number) for number in range(20)])
    report = spancast.flush(60)
    sys.stdout.write(f"{bool(report)} {spancast.stats().destinations['one'].delivered}")


def _patch() -> None:
    from gevent import monkey

    monkey.patch_all()


if __name__ == "__main__":
    main(*sys.argv[1:])
