"""Print the oldest SDK of each row as requirements; see ``make versions``."""

from __future__ import annotations

from spancast.instrumentation.registry import CLIENTS, instrumentor

if __name__ == "__main__":
    rows = (instrumentor(name).client for name in CLIENTS)
    print(*(f"{row.distribution}=={row.oldest}" for row in rows))
