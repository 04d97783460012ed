"""Ports for servers that start later, or again: no other test can be given one in the meantime."""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _LAST = 10_000, 32_000
"""Below those that the system gives for port 0 and to clients (from 32,768 on Linux)."""
_candidates = itertools.count(os.getpid() * 101)


def own_port() -> int:
    """Return a port that nothing listens on, and that this process has not returned before."""
    for number in _candidates:
        port = _FIRST + number % (_LAST - _FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError
