"""Build sdist and wheel, check them, install the wheel in fresh environments and use it there.

Ends with status 1 if anything is wrong, and prints what.
"""

from __future__ import annotations

import argparse
import email
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from release.contents import changelog_faults, link_faults, metadata_faults, sdist_faults, wheel_faults
from release.versions import NO_INTERPRETER, interpreter

ROOT: Final = Path(__file__).parents[1]
DIST: Final = ROOT / "dist"
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UV: Final = Path(sys.executable).parent / "uv"
NOWHERE: Final = "127.0.0.1:9"
"""An address that refuses connections."""

MODULES: Final = {
    "auto": ("opentelemetry.distro", "opentelemetry.instrumentation.auto_instrumentation"),
    "aws": ("botocore.session", "botocore.awsrequest"),
    "azure": ("azure.identity",),
    "bigquery": ("google.auth.transport.urllib3", "google.oauth2.service_account"),
    "clickhouse": ("clickhouse_connect",),
    "firehose": ("botocore.session",),
    "google": ("google.auth.transport.urllib3",),
    "kafka": ("confluent_kafka",),
    "parquet": ("obstore", "pyarrow.parquet"),
    "postgres": ("psycopg",),
    "redis": ("redis",),
    "s3": ("botocore.session",),
    "ui": ("spancast.ui.app",),
}
"""What each extra installs, as ``spancast`` imports it."""
_KEYS: Final = "access_key_id: k, secret_access_key: s, region: eu-west-1"
DESTINATIONS: Final = {
    "clickhouse": f"{{type: clickhouse, host: 'http://{NOWHERE}'}}",
    "firehose": f"{{type: firehose, stream: s, endpoint: 'http://{NOWHERE}', {_KEYS}}}",
    "kafka": f"{{type: kafka, bootstrap_servers: '{NOWHERE}'}}",
    "parquet": "{type: parquet, path: rows}",
    "postgres": f"{{type: postgres, url: 'postgresql://u@{NOWHERE}/d'}}",
    "redis": f"{{type: redis, url: 'redis://{NOWHERE}'}}",
    "s3": f"{{type: s3, bucket: b, endpoint: 'http://{NOWHERE}', {_KEYS}}}",
}
"""Destinations that need an extra, and no server to find out that it is installed."""

SNIPPET_TESTS: Final = ("tests/test_documentation.py", "tests/test_examples.py")
TEST_TOOLS: Final = (
    "pytest", "pytest-asyncio", "hypothesis", "certifi", "httpx", "fastapi", "openai", "anthropic", "openrouter",
    "nbformat", "nbclient", "ipykernel", "flask", "celery", "django",
)  # fmt: skip
OTHER_PYTHONS: Final = ("3.12", "3.13", "3.14")
GITHUB_FILES: Final = {
    "github-workflows": "workflows/*.yml",
    "dependabot": "dependabot.yml",
    "github-issue-config": "ISSUE_TEMPLATE/config.yml",
    "github-issue-forms": "ISSUE_TEMPLATE/[!c]*.yml",
}
"""Which schema each file of .github has."""
RUNS: Final = 15
MOST_SHOWN: Final = 2000
"""Characters of the output of a command that failed."""


class Defect(Exception):  # noqa: N818 - a defect of the release, not of this program
    """A command that failed, or a wrong output."""


def run(command: Sequence[str | Path], **options: Any) -> str:  # noqa: ANN401 - options of subprocess.run
    """Return what ``command`` prints to stdout.

    Raises:
        Defect: It failed.
    """
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise Defect(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build() -> tuple[Path, Path]:
    """Build sdist and wheel, the wheel from the sdist, and return their paths."""
    shutil.rmtree(DIST, ignore_errors=True)
    run([UV, "build", "--quiet", "--out-dir", DIST, ROOT])
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    for file in (sdist, wheel):
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1024:,.0f} KiB")
    return sdist, wheel


def static_faults(sdist: Path, wheel: Path) -> Iterator[str]:
    """Check contents, metadata and links of what was built."""
    version: str = PROJECT["version"]
    tracked = run(["git", "ls-files"], cwd=ROOT).splitlines()
    package = [name.removeprefix("src/") for name in tracked if name.startswith("src/spancast/")]
    with zipfile.ZipFile(wheel) as archive:
        yield from wheel_faults(archive.namelist(), package, version)
        metadata = email.message_from_bytes(archive.read(f"spancast-{version}.dist-info/METADATA"))
    changelog = (ROOT / "CHANGELOG.md").read_text()
    rows = json.loads((ROOT / "docs" / "versions.json").read_text())
    pythons = {row["python"] for row in rows if row["suites"]}
    yield from metadata_faults(metadata, version, pythons, changelog)
    yield from changelog_faults(changelog)
    with tarfile.open(sdist) as archive:
        names = [one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()]
    yield from sdist_faults(names, tracked)
    pages = {name: (ROOT / name).read_text() for name in names if name.endswith(".md")}
    yield from link_faults(pages, names)
    run([UV, "tool", "run", "--quiet", "twine", "check", "--strict", sdist, wheel])
    for schema, pattern in GITHUB_FILES.items():
        files = sorted((ROOT / ".github").glob(pattern))
        run([UV, "tool", "run", "--quiet", "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files])
    print("metadata, contents and links: checked")


class Environment:
    """A fresh environment with the wheel, in a folder of its own; programs in it see no variable of ours."""

    def __init__(self, folder: Path, requirements: Sequence[str], python: str = sys.executable) -> None:
        self.folder, self.work = folder, folder / "work"
        run([UV, "venv", "--quiet", "--python", python, folder / "venv"])
        self.work.mkdir()
        run([UV, "pip", "install", "--quiet", "--python", self.python, *requirements])
        run([UV, "pip", "check", "--quiet", "--python", self.python])
        self.variables = {
            "PATH": f"{self.python.parent}{os.pathsep}{os.defpath}",
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    @property
    def python(self) -> Path:
        """Return the path of its interpreter."""
        return self.folder / "venv" / "bin" / "python"

    def run(self, *command: str, status: int = 0) -> str:
        """Return stdout and stderr of ``command``, which must end with ``status`` and without a traceback."""
        done = subprocess.run(
            [str(self.python.parent / command[0]), *command[1:]], cwd=self.work, env=self.variables,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        printed = done.stdout + done.stderr
        if done.returncode != status or "Traceback" in done.stderr:
            raise Defect(f"{' '.join(command)}: status {done.returncode}, expected {status}\n{printed[-MOST_SHOWN:]}")
        return printed


def expect(text: str, *parts: str) -> None:
    """Raise ``Defect`` unless ``text`` contains all ``parts``."""
    missing = [part for part in parts if part not in text]
    if missing:
        raise Defect(f"expected {missing} in:\n{text[-MOST_SHOWN:]}")


FIRST_CALL: Final = """
import spancast

@spancast.instrument
def complete(model, messages):
    return {"choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}

complete("first-model", [{"role": "user", "content": "hi"}])
"""
"""A program that ends right after its first call, which is harder to deliver than it looks."""


def try_first_call(environment: Environment) -> None:
    """Make one call and find its trace."""
    environment.run("python", "-c", FIRST_CALL)
    expect(environment.run("spancast", "traces"), "first-model")


def try_base(environment: Environment) -> None:
    """Use the wheel without an extra, as a stranger does first."""
    version: str = PROJECT["version"]
    try_first_call(environment)
    expect(environment.run("spancast", "--version"), f"spancast {version}\n")
    expect(environment.run("python", "-c", "import spancast; print(spancast.__version__)"), version)
    expect(environment.run("spancast", "demo"), "Support", "Stored in ")
    expect(environment.run("spancast", "traces"), "Support")
    expect(environment.run("spancast", "run", "--", "python", "-c", "print('ran')"), "ran")
    (environment.work / "spancast.yaml").write_text("destinations: {here: {type: file, path: spans.jsonl}}\n")
    expect(environment.run("spancast", "check"), "valid; 1 destination enabled", "ok    here (file)")
    report = json.loads(environment.run("spancast", "report", "--json"))
    if report["versions"]["spancast"] != version or report["store"]["spans"] == 0:
        raise Defect(f"spancast report: {report}")
    expect(environment.run("spancast", "ui", status=1), "pip install 'spancast[ui]'")
    (environment.work / "spancast.yaml").write_text(_destinations(DESTINATIONS))
    refused = environment.run("spancast", "check", "--timeout", "5s", status=1)
    expect("".join(refused.split()), *(f"pipinstall'spancast[{extra}]'" for extra in DESTINATIONS))
    print_size(environment)
    print_import_time(environment)


def _destinations(extras: Sequence[str] | dict[str, str]) -> str:
    return "destinations:\n" + "".join(f"  {extra}: {DESTINATIONS[extra]}\n" for extra in extras)


def print_size(environment: Environment) -> None:
    """Print the size of everything that the base install brings, without compiled files."""
    (site,) = (environment.folder / "venv").glob("lib/python*/site-packages")
    sizes: dict[str, int] = {}
    for file in site.rglob("*"):
        if file.is_file() and file.suffix != ".pyc":
            top = file.relative_to(site).parts[0].partition("-")[0].partition(".")[0]
            sizes[top] = sizes.get(top, 0) + file.stat().st_size
    count = len(list(site.glob("*.dist-info")))
    largest = sorted(sizes.items(), key=lambda one: -one[1])[:6]
    print(f"base install: {sum(sizes.values()) / 2**20:.1f} MiB in {count} distributions; the largest:")
    print("  " + ", ".join(f"{name} {size / 2**20:.1f}" for name, size in largest))
    print(f"  spancast itself: {sizes['spancast'] / 2**20:.1f} MiB")


MEASURE: Final = f"""
import resource, subprocess, sys
def used():
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
programs = ("pass", "import opentelemetry.sdk.trace", "import spancast")
best = dict.fromkeys(programs, 9.0)
for code in programs * {RUNS}:
    before = used()
    subprocess.run([sys.executable, "-c", code], check=True)
    best[code] = min(best[code], used() - before)
for code in programs[1:]:
    print(f"{{code}}: {{1000 * (best[code] - best['pass']):.0f}} ms of CPU")
"""


def print_import_time(environment: Environment) -> None:
    """Print the CPU time of ``import spancast``, which a busy machine disturbs less than the time on the clock."""
    print(f"the cheapest of {RUNS} interleaved runs, without the start of Python:")
    print("  " + environment.run("python", "-c", MEASURE).strip().replace("\n", "\n  "))


def try_extra(environment: Environment, extra: str) -> None:
    """Check that the extra has all that spancast imports for it."""
    environment.run("python", "-c", f"import {', '.join(MODULES[extra])}")
    if extra in DESTINATIONS:
        (environment.work / "spancast.yaml").write_text(_destinations([extra]))
        status = 0 if extra == "parquet" else 1
        printed = environment.run("spancast", "check", "--timeout", "10s", status=status)
        if "is not installed" in printed:
            raise Defect(printed)
        expect(printed, f"{extra} ({extra})")
    if extra == "ui":
        environment.run("spancast", "demo")
        trace = environment.run("spancast", "traces", "--json")
        expect(environment.run("spancast", "show", json.loads(trace)[0]["trace_id"], "--html"), "<html")


def run_snippets(environment: Environment) -> None:
    """Run the snippets of README.md and the examples with the installed wheel."""
    tests = [name for name in SNIPPET_TESTS if (ROOT / name).exists()]
    done = subprocess.run(
        [environment.python, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-W", "default",
         "-k", "README or test_examples", *tests],
        cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Defect((done.stdout + done.stderr)[-5 * MOST_SHOWN :])
    print(f"snippets and examples: {done.stdout.strip().splitlines()[-1]}")


def main() -> int:
    """Run the whole release; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m release")
    parser.add_argument("--only", metavar="STEP", help="static, base, extras, the name of one extra, 3.12, or snippets")
    only = parser.parse_args().only
    sdist, wheel = build()
    faults = list(static_faults(sdist, wheel))
    extras = set(PROJECT["optional-dependencies"]) - {"all"}
    faults += [f"release/__main__.py: no modules for the extra {one}" for one in sorted(extras ^ set(MODULES))]
    with tempfile.TemporaryDirectory(prefix="spancast-release-") as folder:
        steps: dict[str, Any] = {"base": ([str(wheel)], try_base)}
        for extra in sorted(extras & set(MODULES)):
            steps[extra] = ([f"{wheel}[{extra}]"], lambda made, extra=extra: try_extra(made, extra))
        for other in OTHER_PYTHONS:
            steps[other] = ([str(wheel)], try_first_call)
        steps["snippets"] = ([f"{wheel}[all]", *TEST_TOOLS], run_snippets)
        for name, (requirements, attempt) in steps.items():
            if only not in {None, name, "extras" if name in MODULES else ""}:
                continue
            python = interpreter(name) if name in OTHER_PYTHONS else sys.executable
            if python is None:
                print(f"Python {name}: {NO_INTERPRETER}")
                continue
            try:
                attempt(Environment(Path(folder) / name, requirements, python))
                print(f"{name}: installed and used")
            except (Defect, LookupError, TypeError, ValueError, subprocess.SubprocessError) as defect:
                # The others are of an output that is not what it should be, or of a command that hangs.
                faults.append(f"{name}: {type(defect).__name__}: {defect}")
    print("\n".join(["", *(f"FAULT {fault}" for fault in faults)]) if faults else "the release is sound")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
