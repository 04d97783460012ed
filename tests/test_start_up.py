"""Import, ``configure()`` and auto-instrumentation in restricted environments: they work or raise ConfigError."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.otlp_receiver import OtlpReceiver

import spancast
from spancast.testing import ReplayServer

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[1]

NO_HOME = """
import os, pwd
def no_entry(*_):
    raise KeyError("no such user")
pwd.getpwuid = pwd.getpwnam = no_entry
os.environ.pop("HOME", None), os.environ.pop("XDG_STATE_HOME", None)
"""
"""A user id without an entry in the password database, as in OpenShift containers."""

NO_UNIX = """
import logging, os, random, sys, tempfile, threading  # modules that need these at import
for name in ("register_at_fork", "fork", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "fchmod", "getuid", "geteuid"):
    delattr(os, name)
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "pwd", "grp", "resource", "termios"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules.pop(name, None)
"""
"""Removes the functions and modules that Windows does not have."""

NO_METADATA = """
import importlib.metadata
found = importlib.metadata.distribution
def distribution(name):
    if name == "spancast":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.distribution = distribution
"""
"""Removes the distribution metadata, as in a frozen program."""

CALL = """
import logging, sys
logging.basicConfig(format="%(levelname)s %(message)s")
import openai, spancast
spancast.diagnostics.reraise_internal_errors(enabled=True)
spancast.configure(**SETTINGS)
with openai.OpenAI(base_url=sys.argv[1], api_key="k") as client, spancast.trace(trace_name="kept"):
    spancast.instrument(client).chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
report = spancast.flush(20)
print(bool(report), report)
"""


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def run(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANCAST_"))}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**environ, **variables}, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip


def program(prelude: str, settings: dict[str, Any]) -> str:
    return f"{prelude}\nSETTINGS = {settings!r}\n{CALL}"


def warnings(completed: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in completed.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))]


def destinations_of(receiver: OtlpReceiver) -> dict[str, Any]:
    return {"one": {"type": "otlp", "endpoint": receiver.url}}


def test_configure_without_home_uses_memory_spool_after_one_warning(
    server: ReplayServer, receiver: OtlpReceiver
) -> None:
    completed = run(program(NO_HOME, {"destinations": destinations_of(receiver)}), server.base_url)
    assert completed.stdout.startswith("True one: 2 delivered"), completed.stderr
    [warning] = warnings(completed)
    assert "there is no home directory for the spool, so spans are queued in memory" in warning
    assert len(receiver.spans) == 2


def test_configure_without_home_and_with_memory_spool_does_not_warn(
    server: ReplayServer, receiver: OtlpReceiver
) -> None:
    completed = run(program(NO_HOME, {"destinations": destinations_of(receiver), "spool": "memory"}), server.base_url)
    assert completed.stdout.startswith("True one: 2 delivered"), completed.stderr
    assert warnings(completed) == []


def test_local_store_without_home_rejects_with_the_reason(server: ReplayServer) -> None:
    completed = run(program(NO_HOME, {}), server.base_url)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.startswith("False store: 0 delivered, 0 queued, 2 dead-lettered")
    assert "no home directory for the local store: set XDG_STATE_HOME" in completed.stdout
    assert (
        len(
            [
                warning
                for warning in warnings(completed)
                if "no destination is configured and there is no home" in warning
            ]
        )
        == 1
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"spool": {"path": "~/spool"}},
        {"destinations": {"a": {"type": "file", "path": "~/spans.jsonl"}}},
        {"destinations": {"a": {"type": "store", "path": "~/spans.db"}}},
        {"destinations": {"a": {"type": "otlp", "endpoint": "http://h", "ca_file": "~/ca.pem"}}},
        {"path": "~/spancast.yaml"},
    ],
    ids=["spool", "file", "store", "certificate", "settings"],
)
def test_configure_without_home_and_with_path_in_home_raises_config_error(settings: dict[str, Any]) -> None:
    completed = run(f"{NO_HOME}\nimport spancast\nspancast.configure(**{settings!r})")
    assert "spancast.errors.ConfigError: " in completed.stderr
    assert "RuntimeError" not in completed.stderr


@pytest.mark.parametrize("command", [["traces"], ["spool"], ["check", "--offline"], ["destinations", "store"]])
def test_command_without_home_reports_it(command: list[str]) -> None:
    completed = run(f"{NO_HOME}\nimport sys\nfrom spancast.cli import main\nsys.exit(main({command!r}))")
    assert "Traceback" not in completed.stderr
    if command[0] in ("traces", "spool"):
        assert "no home directory" in completed.stderr


@pytest.mark.parametrize("variable", ["HOME", "XDG_STATE_HOME"])
def test_configure_with_unusable_directory_uses_memory_spool_after_one_warning(
    variable: str, server: ReplayServer, receiver: OtlpReceiver
) -> None:
    prelude = "import os; os.environ.pop('XDG_STATE_HOME')" if variable == "HOME" else ""
    completed = run(
        program(prelude, {"destinations": destinations_of(receiver)}), server.base_url, **{variable: "/dev/null/home"}
    )
    assert completed.stdout.startswith("True one: 2 delivered"), completed.stderr
    [warning] = warnings(completed)
    assert "cannot be used" in warning
    assert "records are kept in memory" in warning


def test_local_store_in_unusable_directory_reports_the_reason(server: ReplayServer) -> None:
    completed = run(
        program("", {}).replace("flush(20)", "flush(0.5)"), server.base_url, XDG_STATE_HOME="/dev/null/home"
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.startswith("False store: 0 delivered, 2 queued")
    assert "Not a directory" in completed.stdout


def test_configure_without_unix_functions_delivers(
    server: ReplayServer, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    file, store = tmp_path / "spans.jsonl", tmp_path / "spans.db"
    destinations = {
        **destinations_of(receiver),
        "file": {"type": "file", "path": str(file)},
        "store": {"type": "store", "path": str(store)},
    }
    completed = run(
        program(NO_UNIX, {"destinations": destinations}), server.base_url, XDG_STATE_HOME=str(tmp_path / "state")
    )
    assert completed.stdout.startswith("True "), completed.stderr
    assert warnings(completed) == []
    assert len(receiver.spans) == 2
    assert (tmp_path / "state" / "spancast" / "spool.sqlite3").is_file()
    assert file.is_file()
    assert store.is_file()


def test_configure_without_metadata_delivers(server: ReplayServer, receiver: OtlpReceiver, tmp_path: Path) -> None:
    completed = run(
        program(NO_METADATA, {"destinations": destinations_of(receiver)}), server.base_url, XDG_STATE_HOME=str(tmp_path)
    )
    assert completed.stdout.startswith("True one: 2 delivered"), completed.stderr
    assert receiver.requests[0].headers["user-agent"] == "spancast/unknown"


@pytest.mark.parametrize(
    ("prelude", "version"), [("", importlib.metadata.version("spancast")), (NO_METADATA, "unknown")]
)
def test_version_is_that_of_the_distribution(prelude: str, version: str) -> None:
    code = "import spancast; print(spancast.__version__); from spancast.cli import main; main(['--version'])"
    completed = run(f"{prelude}\n{code}")
    assert completed.stdout.splitlines() == [version, f"spancast {version}"], completed.stderr


def add_odd_exporter(directory: Path) -> None:
    """Write a distribution with an exporter named ``odd`` that cannot be created."""
    package = directory / "odd-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[opentelemetry_traces_exporter]\nodd = odd:Exporter\n")
    (directory / "odd.py").write_text(
        "class Odd(Exception): pass\nclass Exporter:\n    def __init__(self): raise Odd('hunter2')\n"
    )


def test_spancast_run_does_not_name_destinations_that_cannot_be_created(tmp_path: Path) -> None:
    add_odd_exporter(tmp_path)
    (tmp_path / "spancast.yaml").write_text("destinations: {a: {type: exporter, exporter: odd}}")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANCAST_"))}
    completed = subprocess.run(
        [str(BIN / "spancast"), "run", "--", sys.executable, "-c", "print('ran')"],
        env={**environ, "PYTHONPATH": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert completed.stdout == "ran\n"
    [error, advice] = completed.stderr.splitlines()
    assert error == "spancast: not configured: destinations.a: exporter: odd cannot be created: Odd"
    assert "spancast check" in advice


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"OTEL_SPAN_EVENT_COUNT_LIMIT": "-1"},
            "OTEL_SPAN_EVENT_COUNT_LIMIT must be a non-negative integer but got -1",
        ),
        ({"OTEL_SPAN_LINK_COUNT_LIMIT": "x"}, "OTEL_SPAN_LINK_COUNT_LIMIT must be a non-negative integer but got x"),
        ({"OTEL_PYTHON_TRACER_PROVIDER": "none such"}, "configure: StopIteration"),
        ({"OTEL_PYTHON_METER_PROVIDER": "none such"}, "configure: StopIteration"),
        (
            {"OTEL_TRACES_EXPORTER": "odd"},
            "destinations.odd: exporter: odd cannot be created: Odd",
        ),
    ],
)
def test_configure_with_failing_otel_component_raises_config_error(
    variables: dict[str, str], message: str, tmp_path: Path
) -> None:
    add_odd_exporter(tmp_path)
    completed = run(
        "import spancast\ntry:\n    spancast.configure()\nexcept spancast.ConfigError as error:\n    print(error)",
        PYTHONPATH=str(tmp_path), XDG_STATE_HOME=str(tmp_path), **variables,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.strip() == message
    assert "hunter2" not in completed.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tracer_provider": "x"}, "tracer_provider: expected a provider of the OpenTelemetry API, got str"),
        ({"meter_provider": 3}, "meter_provider: expected a provider of the OpenTelemetry API, got int"),
        ({"path": 3}, r"path: must be the path of a file \(given: int\)"),
        ({"path": "a\0b"}, "cannot be read"),
        ({"spool": {"path": "a\0b"}}, "spool.path: must be a path without control characters"),
        (
            {"destinations": {"a": {"type": "file", "path": "a\0b"}}},
            "destinations.a.path: must be a path without control",
        ),
    ],
)
def test_configure_with_wrong_argument_raises_config_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(spancast.ConfigError, match=message):
        spancast.configure(**settings)


STARTS_ANOTHER = """
import os, subprocess, sys
os.chdir("/")
if sys.argv[1:] != ["second"]:
    sys.exit(subprocess.run([sys.executable, __file__, "second"]).returncode)
import openai
openai.OpenAI().chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
"""


@pytest.mark.parametrize("option", [[], ["--config", "other.yaml"]], ids=["spancast.yaml", "--config"])
def test_run_hands_its_file_to_every_process_and_prints_it_once(
    option: list[str], server: ReplayServer, tmp_path: Path
) -> None:
    file = tmp_path / (option[1] if option else "spancast.yaml")
    file.write_text(f"destinations: {{kept: {{type: file, path: {tmp_path}/spans.jsonl}}}}")
    program = tmp_path / "program.py"
    program.write_text(STARTS_ANOTHER)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANCAST_"))}
    completed = subprocess.run(
        [BIN / "spancast", "run", *option, "--", sys.executable, program],
        env={**environ, "XDG_STATE_HOME": str(tmp_path), "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "k"},
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == f"spancast: {file} is used; traces go to kept\n"
    assert "chat m" in (tmp_path / "spans.jsonl").read_text()


APPLICATION = """
import logging
from opentelemetry import trace
import openai
with trace.get_tracer("application").start_as_current_span("work"):
    answer = openai.OpenAI().chat.completions.create(model="m", messages=[{"role": "user", "content": "secret question"}])
print(answer.choices[0].message.content)
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
print("others:", URLLib3Instrumentor().is_instrumented_by_opentelemetry)
import spancast
print("flush:", spancast.flush(20))
"""


@pytest.mark.parametrize("file", ["destinations: [", "capture_content: no\ndestinations: {a: {type: nothing}}"])
@pytest.mark.parametrize(
    "starter", [["spancast", "run", "--"], ["opentelemetry-instrument"]], ids=["spancast", "opentelemetry-instrument"]
)
@pytest.mark.parametrize("exporter", ["otlp", "spancast"])
def test_auto_instrumentation_with_config_error_continues_without_content(
    exporter: str, starter: list[str], file: str, server: ReplayServer, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    config = tmp_path / "spancast.yaml"
    config.write_text(file)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANCAST_"))},
        "SPANCAST_CONFIG": str(config), "XDG_STATE_HOME": str(tmp_path),
        "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "k",
        "OTEL_TRACES_EXPORTER": exporter, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
        # Other instrumentations of openai would record content.
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "openai,genai_openai,openinference_openai,openai_v2",
    }  # fmt: skip
    completed = subprocess.run(
        [str(BIN / starter[0]), *starter[1:], sys.executable, "-c", APPLICATION],
        env=environ, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.startswith("secret question\n"), "the replay server returns the question"
    [logged] = [line for line in completed.stderr.splitlines() if line.startswith("spancast: ")]
    assert logged.startswith("spancast: not configured: ")
    assert "Traceback" not in completed.stderr
    bodies = b"".join(request.body for request in receiver.requests)
    assert b"secret question" not in bodies
    if starter[0] == "opentelemetry-instrument":
        assert "others: True" in completed.stdout
        if exporter == "otlp":
            assert b"work" in bodies
        else:
            assert "flush: 2 dropped before any destination" in completed.stdout
