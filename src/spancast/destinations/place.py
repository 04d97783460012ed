"""Where a destination sends, and its fingerprint.

A spool is shared by programs. A route in it is a destination's name and this fingerprint, so that
programs which use one name for two addresses or two accounts never deliver each other's spans.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

Facts: TypeAlias = Mapping[str, "str | None"]

DIGITS: Final = 12
_NOTHING: Final[Facts] = {}
_PORTS: Final = {"http": 80, "https": 443}
# 12 ms. Keys are random, but a password in a URL or a header may be guessed.
_ROUNDS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An address and an account there; what is None does not count.

    ``credentials`` are those that name the account because nothing else does (an API key, headers). A
    credential beside which something else names the account is left out, so that it can be replaced
    while spans wait.
    """

    address: Facts
    account: Facts = field(default_factory=lambda: _NOTHING)
    credentials: Facts = field(default_factory=lambda: _NOTHING, repr=False)

    def fingerprint(self, kind: str) -> str:
        """Return ``DIGITS`` hexadecimal digits, equal in every process for the same place of a destination ``kind``.

        A one-way hash: neither credentials nor accounts can be read from it.
        """
        open_part = _text({"type": kind, "address": _text(self.address), "account": _text(self.account)})
        secret_part = _text(self.credentials)
        if secret_part != _text(_NOTHING):
            secret_part = hashlib.pbkdf2_hmac("sha256", secret_part.encode(), open_part.encode(), _ROUNDS).hex()
        return hashlib.sha256(f"{open_part}\n{secret_part}".encode()).hexdigest()[:DIGITS]


def _text(facts: Facts) -> str:
    return json.dumps({name: value for name, value in facts.items() if value is not None}, sort_keys=True)


def plain_url(url: str) -> str:
    """Return ``url`` without user, password, query and fragment, the same for every spelling of it.

    The host in lower case, the port written out, no slash at the end.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    return f"{parts.scheme}://{host}:{parts.port or _PORTS.get(parts.scheme)}{parts.path.rstrip('/')}"


def secrets_of(url: str) -> Facts:
    """Return the parts of ``url`` that may be credentials, and may name the account."""
    parts = urlsplit(url)
    return {"user": parts.netloc.rpartition("@")[0] or None, "query": parts.query or None}


def absolute(path: str | Path) -> str:
    """Return ``path`` from the root, without ``~`` and ``..``."""
    # Path.resolve() would follow links, which may be changed.
    try:
        return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111
    except OSError:  # the working directory was removed
        return os.path.normpath(path)


def program() -> str:
    """Return which program this is: its file, and the directory it runs in if it has none."""
    return absolute(sys.argv[0] if sys.argv and sys.argv[0] else ".")


def where_stream_goes(name: str) -> str:
    """Return where ``stdout`` or ``stderr`` of this process goes: a file or a terminal, else the program's own."""
    try:
        status = os.fstat(getattr(sys, name).fileno())
    except (AttributeError, OSError, ValueError):  # replaced by an object without a file, or closed
        return program()
    # Pipes and sockets are new at every start; what waits for one would never be delivered.
    is_lasting = stat.S_ISREG(status.st_mode) or stat.S_ISCHR(status.st_mode)
    return f"{status.st_dev}:{status.st_ino}" if is_lasting else program()
