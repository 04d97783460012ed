"""``configure``: which provider and exporters are used, and what wrong settings say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

import spancast
from spancast.destinations.environment import environment_exporters


@pytest.fixture(autouse=True)
def no_otel_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        monkeypatch.delenv(name, raising=False)


def test_no_variables_no_exporter() -> None:
    assert environment_exporters() == []


@pytest.mark.parametrize(
    ("variables", "modules"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, [ConsoleSpanExporter.__module__]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}, []),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"},
            ["opentelemetry.exporter.otlp.proto.http.trace_exporter"],
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            ["opentelemetry.exporter.otlp.proto.grpc.trace_exporter"],
        ),
    ],
)
def test_the_standard_variables(variables: dict[str, str], modules: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    exporters = environment_exporters()
    assert [type(exporter).__module__ for exporter in exporters] == modules
    for exporter in exporters:
        exporter.shutdown()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger", "OTEL_TRACES_EXPORTER: 'jaeger' given, installed are console"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier pigeon", "'carrier pigeon' given, allowed are grpc, http/protobuf"),
    ],
)
def test_wrong_variables_are_told(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(spancast.ConfigError, match=message):
        environment_exporters()


PROGRAMS = {
    "nothing configured: kept on this machine": (
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
        "traces are kept on this machine",
    ),
    "an explicit none is obeyed": (
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
    "the application's provider is used": (
        """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
mine = TracerProvider()
trace.set_tracer_provider(mine)
spancast.configure()
assert spancast.runtime.RECORDER.settings.tracer_provider is mine
""",
        "",
    ),
    "made global only when asked": (
        """
from opentelemetry import trace
spancast.configure(set_global=True, service_name='s')
assert trace.get_tracer_provider().resource.attributes['service.name'] == 's'
""",
        "",
    ),
    "an application starts with wrong settings": (
        "import os; os.environ['OTEL_TRACES_EXPORTER'] = 'nothing'; import spancast.auto; spancast.auto.start()",
        "not configured: OTEL_TRACES_EXPORTER",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str, tmp_path: Path) -> None:
    code, message = PROGRAMS[name]
    done = subprocess.run(
        [sys.executable, "-c", f"import logging; logging.basicConfig(); import spancast\n{code}"],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert message in done.stderr
