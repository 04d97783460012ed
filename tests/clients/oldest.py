"""Print the oldest SDK of each row as requirements; see ``make versions``."""

from __future__ import annotations

from spancast.clients.table import CLIENTS, installation

if __name__ == "__main__":
    rows = (installation(name).client for name in CLIENTS)
    print(*(f"{row.distribution}=={row.oldest}" for row in rows))
