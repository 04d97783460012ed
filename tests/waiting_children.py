"""Forked children that hold what their parent had open at the fork."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def waiting_children() -> Iterator[Callable[[], None]]:
    """Yield a function that forks a child, which waits until the block ends."""
    reading, writing = os.pipe()
    children: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os.close(writing)
            # Until the parent closes the other end.
            os.read(reading, 1)
            os._exit(0)
        children.append(child)

    try:
        yield fork
    finally:
        os.close(writing)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        os.close(reading)
