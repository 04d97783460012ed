"""The address and account of a destination, and their fingerprint.

A spool is shared by programs. It identifies a destination by name and fingerprint, so that programs
with the same name for different addresses or accounts never deliver each other's spans.
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
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Takes 12 ms. Keys are random, but a password in a URL or header may be guessable.
_ROUNDS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An address and an account; None values are ignored.

    ``credentials`` are those that alone identify the account (an API key, headers). A credential is
    left out if another field identifies the account, so that it can be replaced while spans are queued.
    """

    address: Facts
    account: Facts = field(default_factory=lambda: _NOTHING)
    credentials: Facts = field(default_factory=lambda: _NOTHING, repr=False)

    def fingerprint(self, kind: str) -> str:
        """Return ``DIGITS`` hexadecimal digits, the same in every process for one place and destination type ``kind``.

        It is a one-way hash, so credentials and accounts cannot be recovered.
        """
        open_part = _text({"type": kind, "address": _text(self.address), "account": _text(self.account)})
        secret_part = _text(self.credentials)
        if secret_part != _text(_NOTHING):
            secret_part = hashlib.pbkdf2_hmac("sha256", secret_part.encode(), open_part.encode(), _ROUNDS).hex()
        return hashlib.sha256(f"{open_part}\n{secret_part}".encode()).hexdigest()[:DIGITS]


def _text(facts: Facts) -> str:
    return json.dumps({name: value for name, value in facts.items() if value is not None}, sort_keys=True)


def plain_url(url: str) -> str:
    """Return ``url`` normalized, without user, password, query and fragment.

    The host is in lower case, the port explicit, a final slash removed.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    return f"{parts.scheme}://{host}:{parts.port or DEFAULT_PORTS.get(parts.scheme)}{parts.path.rstrip('/')}"


def secrets_of(url: str) -> Facts:
    """Return the parts of ``url`` that may be credentials or identify the account."""
    parts = urlsplit(url)
    return {"user": parts.netloc.rpartition("@")[0] or None, "query": parts.query or None}


def absolute(path: str | Path) -> str:
    """Return ``path`` as an absolute path, with ``~`` and ``..`` resolved."""
    # Path.resolve() would follow links, whose targets may change.
    try:
        return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111
    except OSError:  # the working directory was removed
        return os.path.normpath(path)


def program() -> str:
    """Return the path of this program, or the working directory if it has no file."""
    return absolute(sys.argv[0] if sys.argv and sys.argv[0] else ".")


def where_stream_goes(name: str) -> str:
    """Return the file or terminal of ``stdout`` or ``stderr``, else the path of the program."""
    try:
        status = os.fstat(getattr(sys, name).fileno())
    except (AttributeError, OSError, ValueError):  # replaced by an object without a file, or closed
        return program()
    # Pipes and sockets differ at every start; spans queued for one would never be delivered.
    is_lasting = stat.S_ISREG(status.st_mode) or stat.S_ISCHR(status.st_mode)
    return f"{status.st_dev}:{status.st_ino}" if is_lasting else program()
