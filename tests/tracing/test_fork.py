"""A forked child has its own groups, no inherited locks, and delivers nothing twice."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import os, threading
import spancast
from spancast.diagnostics import counters
from spancast.testing import captured_spans

with captured_spans() as spans:
    complete = spancast.instrument(lambda **request: "hi")
    keys = {"trace_id": "t", "trace_name": "Support"}
    complete(model="m", messages=[], trace=keys)
    counters._lock.acquire()          # held by "another thread" at the moment of the fork
    child = os.fork()
    if child == 0:
        spans.clear()
        complete(model="m", messages=[], trace=keys)
        names = [span.name for span in spans.all()]
        os._exit(0 if names == ["chat m", "Support"] else 1)
    counters._lock.release()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert spans.tree() == {"Support": {"chat m": {}}}
"""


def test_forked_child_records_its_own_calls_once() -> None:
    if not hasattr(os, "fork"):
        return
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
