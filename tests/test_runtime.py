"""The ``Runtime``: the chosen provider and exporters, and wrong settings."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import spancast
from spancast.runtime import Runtime
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
