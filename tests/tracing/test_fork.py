"""A forked child has its own groups, no inherited locks, and delivers nothing twice."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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


IN_A_CALL = """
import asyncio, contextlib, os, sys
import spancast
from spancast.testing import ReplayServer, captured_spans
from spancast.testing.spans import attributes

way = sys.argv[1]
inside = lambda: None
child = None

@spancast.instrument
def inner(**request):
    return "inner"

def fork():
    global child
    child = os.fork()
    if child == 0:
        spans.clear()
        inner(model="inner", messages=[])

@spancast.instrument
def function(**request):
    fork()
    return "hi"

@spancast.instrument
async def coroutine(**request):
    fork()
    return "hi"

@spancast.instrument
def generator(**request):
    yield "h"
    fork()
    yield "i"

with captured_spans() as spans, ReplayServer() as server:
    request = {"model": "outer", "messages": [{"role": "user", "content": "x"}]}
    if way == "function":
        function(**request)
    elif way == "failing":
        with contextlib.suppress(TypeError):
            spancast.instrument(lambda **request: fork() or len(1))(**request)
    elif way == "coroutine":
        asyncio.run(coroutine(**request))
    elif way == "generator":
        list(generator(**request))
    elif way == "client":
        import openai
        client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k"))
        client._client.event_hooks = {"request": [lambda request: fork()]}
        client.chat.completions.create(**request)
    elif way == "block":
        with spancast.trace(span_name="outer"):
            fork()
    inner(model="after", messages=[])
    found = sorted((span.name, span.context.span_id, span.parent and span.parent.span_id) for span in spans.all())
    if child == 0:
        names = [name for name, *_ in found]
        os._exit(0 if names == ["chat after", "chat inner"] and found[1][2] and not found[0][2] else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    names = [name for name, *_ in found]
    assert names == ["chat after", "outer" if way == "block" else "chat outer"], names
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("way", ["function", "failing", "coroutine", "generator", "client", "block"])
def test_call_in_the_middle_of_a_fork_is_recorded_by_the_parent_alone(way: str) -> None:
    """The child's own calls are recorded by the child, under the span of the call that it was forked in."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", IN_A_CALL, way], check=True, timeout=300)
