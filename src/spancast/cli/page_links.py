"""Where the page of ``spancast ui`` is, for commands that point to it."""

from __future__ import annotations

import socket
from typing import Final

PORT: Final = 4319
MISSING: Final = "the page needs more packages: pip install 'spancast[ui]' (missing: {name})"
_CONNECT_S: Final = 0.3


def listens(port: int) -> bool:
    """Return whether a server on this machine accepts connections at ``port``."""
    with socket.socket() as probe:
        probe.settimeout(_CONNECT_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def page_link(path: str, option: str, *, is_running: bool) -> str:
    """Return the address of ``path`` if the page is running, else the command that starts it."""
    return f"http://localhost:{PORT}/{path}" if is_running else f"spancast ui --open{option}"
