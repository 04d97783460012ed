"""``configure``: which provider and exporters are used, and what wrong settings say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
assert spancast.runtime.CALL_TRACER.settings.tracer_provider is mine
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
        "import os; os.environ['OTEL_TRACES_EXPORTER'] = 'nothing'; import spancast.auto_instrumentation; spancast.auto_instrumentation.start()",
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
