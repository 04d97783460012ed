"""A program whose disk fails to read now and then; its library ``failing_reads.c`` is loaded before the C library.

Argument: DIRECTORY. Prints what became of 4,000 spans, as JSON. The file is opened again after each fork, so that it is
read and not only remembered.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from tests.attacks.corruption import PATIENCE_S, Destination, configured, make

import spancast

SPANS: Final = 4000
_BATCH: Final = 100
_HERE: Final = Path(__file__).parent
_ROOT: Final = _HERE.parents[1]
HAS_COMPILER: Final = shutil.which("cc") is not None and sys.platform == "linux"


def trial(folder: Path, seed: int, per_mille: int) -> dict[str, int]:
    """Run this program; return how many spans arrived, arrived twice and were counted as dropped."""
    library = folder / "failing_reads.so"
    if not library.exists():
        command = ["cc", "-shared", "-fPIC", "-o", str(library), str(_HERE / "failing_reads.c"), "-ldl"]
        subprocess.run(command, check=True)
    own = {"LD_PRELOAD": str(library), "SEED": str(seed), "FAILS_PER_MILLE": str(per_mille)}
    run = subprocess.run(
        [sys.executable, "-m", "tests.attacks.failing_disk", str(folder / f"spool {seed}")],
        env={**os.environ, **own}, cwd=_ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(run.stdout)


def main() -> None:
    destination = Destination()
    provider = configured(Path(sys.argv[1]), destination)
    for first in range(0, SPANS, _BATCH):
        make(provider, [str(number) for number in range(first, first + _BATCH)])
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        spancast.stats()
    for _ in range(5):
        spancast.flush(PATIENCE_S)
        if not spancast.stats().destinations["one"].queued:
            break
    counts, arrived = spancast.stats(), Counter(destination.names)
    found = {
        "arrived": len(arrived),
        "twice": sum(count - 1 for count in arrived.values()),
        "counted": sum(counts.dropped.values()) + sum(counts.destinations["one"].dropped.values()),
    }
    sys.stdout.write(json.dumps(found))
    spancast.shutdown()


if __name__ == "__main__":
    main()
