"""Run a function in a forked child: its own process, with the modules already loaded."""

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
    """The child failed or timed read_fd. The message is the end of its traceback."""


def forked(function: Callable[..., dict[str, Any]], *args: Any, timeout_s: float = 120.0) -> dict[str, Any]:
    """Return the result of ``function(*args)``, run in a child on the workers' core. The caller has no threads."""
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_fd)
        _run(function, args, write_fd)
    os.close(write_fd)
    output, deadline = b"", time.monotonic() + timeout_s
    try:
        while True:
            if not select.select([read_fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                os.kill(child, signal.SIGKILL)
                raise ChildError(f"no result within {timeout_s:.0f} s")
            data = os.read(read_fd, 1 << 16)
            if not data:
                break
            output += data
    finally:
        os.close(read_fd)
        os.waitpid(child, 0)
    result: dict[str, Any] = json.loads(output or b"{}")
    if "failure" in result:
        raise ChildError(result["failure"])
    return result


def _run(function: Callable[..., dict[str, Any]], args: tuple[Any, ...], write_fd: int) -> None:
    """Run ``function``, write its result to ``write_fd`` and exit: the child does not return to the parent's code."""
    try:
        # In place: libraries keep a reference to os.environ.
        environ = clean_environ()
        for name in set(os.environ) - set(environ):
            del os.environ[name]
        os.environ.update(environ)
        pin(to_last=True)
        result = function(*args)
    except BaseException:  # noqa: BLE001 - the parent raises it
        result = {"failure": traceback.format_exc()[-1_500:]}
    os.write(write_fd, json.dumps(result).encode())
    os._exit(0)
