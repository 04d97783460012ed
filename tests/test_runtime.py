"""The ``Runtime``: the chosen provider and exporters, and wrong settings."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

import spancast
from spancast.runtime import Runtime
from spancast.testing import ReplayServer, captured_spans
from spancast.tracing.call_tracer import CallTracer

PROGRAMS = {
    "no configuration: local store": (
        """
logging.getLogger('spancast').setLevel(logging.INFO)
spancast.configure()
with spancast.trace(trace_name='first'):
    pass
assert spancast.flush(30)
spancast.shutdown()
import os, sqlite3
path = os.path.join(os.environ['XDG_STATE_HOME'], 'spancast', 'spans.db')
assert sqlite3.connect(path).execute('select name from spans').fetchall() == [('first',)]
""",
        "traces are stored on this machine",
    ),
    "exporter none": (
        """
import os
os.environ['OTEL_TRACES_EXPORTER'] = 'none'
spancast.configure()
with spancast.trace(trace_name='first'):
    pass
assert spancast.flush(30)
assert not os.path.exists(os.path.join(os.environ['XDG_STATE_HOME'], 'spancast'))
""",
        "",
    ),
    "provider of the application": (
        """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
provider = TracerProvider()
trace.set_tracer_provider(provider)
spancast.configure()
assert spancast.runtime.CALL_TRACER.settings.tracer_provider is provider
""",
        "",
    ),
    "global provider with set_global": (
        """
from opentelemetry import trace
spancast.configure(set_global=True, service_name='s')
assert trace.get_tracer_provider().resource.attributes['service.name'] == 's'
""",
        "",
    ),
    "auto-instrumentation with wrong settings": (
        "import os; os.environ['OTEL_TRACES_EXPORTER'] = 'nothing'; import spancast.auto_instrumentation; spancast.auto_instrumentation.start()",
        "not configured: OTEL_TRACES_EXPORTER",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_configure_in_program_uses_its_settings(name: str, tmp_path: Path) -> None:
    code, message = PROGRAMS[name]
    completed = subprocess.run(
        [sys.executable, "-c", f"import logging; logging.basicConfig(); import spancast\n{code}"],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    assert message in completed.stderr


@pytest.mark.parametrize("name", ["configure", "instrument", "uninstrument", "trace", "flush", "shutdown", "stats"])
def test_public_function_can_be_pickled_for_another_process(name: str) -> None:
    function = getattr(spancast, name)
    assert pickle.loads(pickle.dumps(function)) == function


def test_runtimes_have_their_own_pipelines(tmp_path: Path) -> None:
    first, second = Runtime(CallTracer()), Runtime(CallTracer())
    for runtime, name in ((first, "first"), (second, "second")):
        file = tmp_path / f"{name}.jsonl"
        runtime.configure(spool="memory", destinations={name: {"type": "file", "path": str(file), "spans": "all"}})
        with runtime.trace(trace_name=name):
            pass
    assert first.flush(30).destinations["first"].delivered == 1
    assert second.flush(30).destinations["second"].delivered == 1
    assert list(second.stats().destinations["second"].dropped) == []
    second.shutdown()
    with first.trace(trace_name="after the end of the other"):
        pass
    assert first.shutdown(30).destinations["first"].delivered == 1
    assert spancast.runtime.RUNTIME.pipeline is None


UNCONFIGURED = """
import os, sys, threading
import openai, spancast
client = openai.OpenAI(base_url=os.environ["SERVER"], api_key="k")
def call(text="hi"):
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    assert answer.choices[0].message.content == text
spancast.instrument()
assert "spancast.wiring" not in sys.modules, "nothing is configured before a call"
"""
STORED = "spancast: traces are stored on this machine; see them with: spancast traces\n"


def run_unconfigured(
    code: str, server: ReplayServer, directory: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANCAST_"))}
    return subprocess.run(
        # Python 3.12 and newer warn of a fork in a process with threads.
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", UNCONFIGURED + code], cwd=directory, capture_output=True, text=True, timeout=60, check=False,
        env={**environ, "XDG_STATE_HOME": str(directory), "SERVER": server.base_url, **variables},
    )  # fmt: skip


def stored(directory: Path) -> list[str]:
    file = directory / "spancast" / "spans.db"
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as connection:
        return [name for (name,) in connection.execute("select name from spans")]


CHILD = "if os.fork() == 0:\n    call()\n    spancast.flush(20)\n    os._exit(0)\nos.wait()\n"
THREADS = """
threads = [threading.Thread(target=call) for _ in range(16)]
for one in threads: one.start()
for one in threads: one.join()
"""


@pytest.mark.parametrize(
    ("code", "calls", "printers"),
    [
        ("call()\ncall()", 2, 1),
        (THREADS, 16, 1),
        ("with spancast.trace(trace_name='chat m'): call()", 2, 1),
        (CHILD + CHILD, 2, 2),
        ("call()\n" + CHILD, 2, 1),
        ("", 0, 0),
    ],
    ids=["twice", "16 threads", "in a block", "in two children", "in parent and child", "no call"],
)
def test_first_call_without_configure_stores_traces_and_prints_where(
    code: str, calls: int, printers: int, server: ReplayServer, tmp_path: Path
) -> None:
    completed = run_unconfigured(code, server, tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == STORED * printers
    assert stored(tmp_path) == ["chat m"] * calls


def test_sigterm_after_a_first_call_on_another_thread_stores_its_trace(server: ReplayServer, tmp_path: Path) -> None:
    term = "one = threading.Thread(target=call)\none.start()\none.join()\n"
    completed = run_unconfigured(
        f"import signal\n{term}os.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()", server, tmp_path
    )
    assert (completed.returncode, completed.stderr) == (-signal.SIGTERM, STORED)
    assert stored(tmp_path) == ["chat m"]


def test_first_call_without_configure_reads_the_file_and_its_settings(server: ReplayServer, tmp_path: Path) -> None:
    file = tmp_path / "spancast.yaml"
    file.write_text(
        "capture_content: false\ndefault_trace: {feature: billing}\n"
        "destinations: {kept: {type: file, path: spans.jsonl}, off: {type: console, enabled: false}}"
    )
    completed = run_unconfigured("call('secret question')", server, tmp_path)
    assert completed.stderr == f"spancast: {file} is used; traces go to kept\n"
    exported = (tmp_path / "spans.jsonl").read_text()
    assert "billing" in exported
    assert "secret question" not in exported


def test_block_without_configure_is_not_affected_by_a_missing_provider(server: ReplayServer, tmp_path: Path) -> None:
    code = "with spancast.trace(trace_name='group', trace_id='t') as block: call()\nprint(block.trace_id)"
    completed = run_unconfigured(code, server, tmp_path, OTEL_PYTHON_TRACER_PROVIDER="missing")
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout == "None\n"
    assert "spancast: not configured: " in completed.stderr


@pytest.mark.parametrize(
    ("file", "variables", "field"),
    [
        ("destinations: {a: {type: nothing}}", {}, "destinations.a.type"),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("", {"OTEL_SPAN_EVENT_COUNT_LIMIT": "-1"}, "OTEL_SPAN_EVENT_COUNT_LIMIT"),
    ],
    ids=["file", "endpoint without scheme", "limit"],
)
def test_first_call_with_wrong_configuration_is_not_affected_and_counted(
    file: str, variables: dict[str, str], field: str, server: ReplayServer, tmp_path: Path
) -> None:
    (tmp_path / "spancast.yaml").write_text(file)
    code = "call()\ncall()\nprint(bool(spancast.flush(20)), spancast.flush(20))"
    completed = run_unconfigured(code, server, tmp_path, **variables)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout == "False 2 dropped before any destination\n"
    [line, advice] = completed.stderr.splitlines()
    assert line.startswith("spancast: not configured: ")
    assert field in line
    assert "check it with `spancast check`" in advice


def test_first_call_without_configure_uses_the_provider_of_the_application(
    server: ReplayServer, tmp_path: Path
) -> None:
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: f"theirs: {span.name}\\n")))
trace.set_tracer_provider(provider)
call()
"""
    completed = run_unconfigured(code, server, tmp_path)
    assert completed.stdout == "theirs: chat m\n"
    assert completed.stderr == "spancast: spans go to the tracer provider of the application\n"
    assert stored(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "variables"),
    [
        ("import logging; logging.getLogger('spancast').setLevel('WARNING'); call()", {}),
        ("call()", {"OTEL_SDK_DISABLED": "true"}),
        ("call()", {"OTEL_TRACES_EXPORTER": "none"}),
        ("spancast.configure(destinations={'a': {'type': 'file', 'path': 'spans.jsonl'}}); call()", {}),
        ("sys.stderr.close(); call()", {}),
        ("sys.stderr = None; call()", {}),
        ("spancast.shutdown(); call()", {}),
    ],
    ids=["log level", "SDK disabled", "no exporter", "named by the program", "closed", "no console", "after shutdown"],
)
def test_nothing_is_printed(code: str, variables: dict[str, str], server: ReplayServer, tmp_path: Path) -> None:
    completed = run_unconfigured(code, server, tmp_path, **variables)
    assert (completed.returncode, completed.stderr, completed.stdout) == (0, "", "")


def test_captured_spans_read_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spancast.yaml").write_text("destinations: {a: {type: nothing}}")
    monkeypatch.chdir(tmp_path)
    with captured_spans() as captured, spancast.trace(trace_name="first"):
        pass
    assert captured.names() == ["first"]


FORKS_MEANWHILE = """
import os, threading
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
parent, constructing, forked = os.getpid(), threading.Event(), threading.Event()
class Exporter(SpanExporter):
    def __init__(self):
        if os.getpid() == parent:
            constructing.set()
            assert forked.wait(30)
    def export(self, spans):
        print("parent" if os.getpid() == parent else "child", [span.name for span in spans], flush=True)
        return SpanExportResult.SUCCESS
"""


def test_fork_while_another_thread_configures_loses_no_call(server: ReplayServer, tmp_path: Path) -> None:
    package = tmp_path / "slow-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[opentelemetry_traces_exporter]\nslow = slow:Exporter\n")
    (tmp_path / "slow.py").write_text(FORKS_MEANWHILE)
    code = """
import slow
thread = threading.Thread(target=call)
thread.start()
assert slow.constructing.wait(30)
child = os.fork()
if child == 0:
    call()
    os._exit(0 if spancast.flush(20) else 1)
slow.forked.set()
thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert spancast.flush(20)
"""
    completed = run_unconfigured(code, server, tmp_path, OTEL_TRACES_EXPORTER="slow", PYTHONPATH=str(tmp_path))
    assert completed.returncode == 0, completed.stderr
    assert sorted(completed.stdout.splitlines()) == ["child ['chat m']", "parent ['chat m']"]


class Silent:
    """A destination that never answers."""

    def __init__(self) -> None:
        self.is_over = threading.Event()

    def deliver(self, payload: object, timeout_s: float) -> None:
        self.is_over.wait(60)


def test_shutdown_keeps_its_timeout_although_the_configured_one_is_longer() -> None:
    runtime, silent = Runtime(CallTracer()), Silent()
    runtime.configure(os.devnull, spool="memory", shutdown_timeout=3600, destinations={"silent": silent})
    with runtime.trace(trace_name="first"):
        pass
    ending = threading.Thread(target=runtime.shutdown, args=(0.5,), daemon=True)
    ending.start()
    ending.join(30)
    assert not ending.is_alive()
    silent.is_over.set()
