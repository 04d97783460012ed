"""Run the suites on each version of Python, with the newest and the oldest SDKs: ``make versions``.

The results are stored in docs/versions.json, from which `make docs` makes the table of docs/versions.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "docs" / "versions.json"
UV: Final = Path(sys.executable).parent / "uv"
SUITES: Final = {
    "recording": "tests/tracing tests/dialects",
    "contract": "tests/contract/test_every_client.py",
    "export": "tests/export tests/encoding",
}
OLDEST_OTEL: Final = "opentelemetry-sdk==1.30.0"
SDKS: Final = ("newest", "oldest", "oldest-otel")
FREE_THREADED: Final = (
    "pytest", "pytest-asyncio", "pytest-xdist", "hypothesis", "anyio", "certifi", "httpx", "jsonschema",
    "openai", "anthropic", "openrouter", "requests", "websockets",
)  # fmt: skip
"""What the suites need at least. orjson and grpcio have no wheels for a Python without the GIL (2026-11)."""
_COUNTS: Final = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")
NO_INTERPRETER: Final = "not run: no interpreter"


def interpreter(version: str) -> str | None:
    """Return the path of an installed Python of this version; None if there is none.

    `release/python3.14` can install that one.
    """
    found = subprocess.run(
        [UV, "python", "find", "--system", "--no-python-downloads", version],
        capture_output=True,
        text=True,
        check=False,
    )
    package = ROOT / "release" / f"python{version}"
    if not found.stdout.strip() and package.exists():
        found = subprocess.run([package], stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip() or None


def environment(version: str, sdks: str) -> Path:
    """Make an environment with the development group and these SDKs; return its interpreter."""
    folder = ROOT / ".venv" / f"versions-{version}-{sdks}"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([UV, "venv", "--quiet", "--python", interpreter(version) or version, folder], check=True)
    install = [UV, "pip", "install", "--quiet", "--python", python]
    if sdks == "oldest-otel":
        # Without the instrumentations of others, which need a newer one.
        subprocess.run([*install, "--editable", str(ROOT), *_few(), OLDEST_OTEL], check=True)
    elif version.endswith("t"):
        subprocess.run([*install, "--editable", str(ROOT), *FREE_THREADED], check=True)
    else:
        subprocess.run([*install, "--editable", f"{ROOT}[all]", "--group", "dev"], check=True)
    if sdks == "oldest":
        module = "tests.instrumentation.oldest"
        listed = subprocess.run([sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True, check=True)
        oldest = listed.stdout.split()
        if version.endswith("t"):
            oldest = [one for one in oldest if one.partition("==")[0] in FREE_THREADED]
        subprocess.run([*install, *oldest], check=True)
    return python


def _few() -> list[str]:
    """Return the packages of `make otel`."""
    return os.environ["OTEL_TESTS"].split()


def suite_result(python: Path, tests: Sequence[str], workers: str) -> dict[str, int]:
    """Run ``tests`` and return how many passed, failed and were skipped."""
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-W", "default", "-p", "no:randomly", "-n", workers, *tests],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    counts = {
        name.rstrip("s") if name.startswith("error") else name: int(n) for n, name in _COUNTS.findall(done.stdout)
    }
    if done.returncode not in {0, 5}:
        print(done.stdout[-6000:] + done.stderr[-2000:])
        counts.setdefault("failed", 1)
    return counts


def versions_in(python: Path) -> dict[str, str]:
    """Return the full version of Python and of OpenTelemetry in an environment."""
    code = (
        "import platform, sys; from importlib.metadata import version;"
        "free = not getattr(sys, '_is_gil_enabled', lambda: True)();"
        "print(platform.python_version() + (' without the GIL' if free else '')); print(version('opentelemetry-sdk'))"
    )
    full, sdk = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")[:2]
    return {"full": full, "opentelemetry": sdk}


def main() -> int:
    """Run the suites and store the results; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m release.versions")
    parser.add_argument("pythons", nargs="+", metavar="VERSION", help="3.13, or 3.14t without the GIL")
    parser.add_argument("--sdks", nargs="+", default=list(SDKS), choices=SDKS)
    parser.add_argument("--suite", nargs="+", default=list(SUITES), choices=SUITES)
    parser.add_argument("--select", default="", help="-k of pytest, for a part of the suites")
    parser.add_argument("--workers", default=os.environ.get("WORKERS", "2"))
    args = parser.parse_args()
    is_failed = False
    for version in args.pythons:
        for sdks in args.sdks:
            row: dict[str, Any] = {"python": version, "sdks": sdks, "suites": {}}
            if interpreter(version) is None:
                _store(row | {"note": NO_INTERPRETER})
                print(f"Python {version}: {NO_INTERPRETER}")
                continue
            python = environment(version, sdks)
            row |= versions_in(python)
            print(f"== Python {row['full']}, {sdks} SDKs, OpenTelemetry {row['opentelemetry']}", flush=True)
            for suite in args.suite:
                select = ["-k", args.select] if args.select else []
                counts = suite_result(python, [*shlex.split(SUITES[suite]), *select], args.workers)
                print(f"{suite}: {counts}", flush=True)
                is_failed |= bool(counts.get("failed") or counts.get("error"))
                row["suites"][suite] = {
                    **counts, "selection": args.select, "date": datetime.now(tz=UTC).date().isoformat()
                }  # fmt: skip
                _store(row)
            if "CI" in os.environ:
                shutil.rmtree(python.parents[1])
    return 1 if is_failed else 0


def _store(row: dict[str, Any]) -> None:
    """Store a row in place of the former one for this Python and these SDKs; its other suites stay."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    former = [one for one in rows if (one["python"], one["sdks"]) == (row["python"], row["sdks"])]
    suites = {**(former[0]["suites"] if former else {}), **row["suites"]}
    kept = [one for one in rows if one not in former]
    rows = sorted(
        [*kept, {**row, "suites": suites}],
        key=lambda one: (int(one["python"].split(".")[1].rstrip("t")), one["python"], SDKS.index(one["sdks"])),
    )
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
