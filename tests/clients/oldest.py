"""Print the oldest SDK of each row as ``--with`` arguments for ``uv run``; see ``make versions``."""

from __future__ import annotations

from spancast.clients.table import CLIENTS, installation

if __name__ == "__main__":
    rows = (installation(name).client for name in CLIENTS)
    print(*(f"--with {row.distribution}=={row.oldest}" for row in rows))
