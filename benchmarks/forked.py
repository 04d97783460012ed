"""A function run in a forked child, so that it has a process of its own and what is loaded already."""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

from benchmarks.environments import clean_environ
from benchmarks.timing import pin


class ChildError(Exception):
    """The child failed, or took too long; the message is what it said."""


def forked(function: Callable[..., dict[str, Any]], *given: Any, patience_s: float = 120.0) -> dict[str, Any]:
    """Return what ``function(*given)`` returns in a child on the workers' core. This process has no threads."""
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.close(out)
        _run(function, given, into)
    os.close(into)
    said, deadline = b"", time.monotonic() + patience_s
    try:
        while True:
            if not select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                os.kill(child, signal.SIGKILL)
                raise ChildError(f"no answer in {patience_s:.0f} s")
            data = os.read(out, 1 << 16)
            if not data:
                break
            said += data
    finally:
        os.close(out)
        os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(said or b"{}")
    if "failure" in found:
        raise ChildError(found["failure"])
    return found


def _run(function: Callable[..., dict[str, Any]], given: tuple[Any, ...], into: int) -> None:
    """Never returns: the child must not go on with what the parent was doing."""
    try:
        # In place: libraries hold the mapping.
        wanted = clean_environ()
        for name in set(os.environ) - set(wanted):
            del os.environ[name]
        os.environ.update(wanted)
        pin(to_last=True)
        found = function(*given)
    except BaseException:  # noqa: BLE001 - told, whatever it is
        found = {"failure": traceback.format_exc()[-1_500:]}
    os.write(into, json.dumps(found).encode())
    os._exit(0)
