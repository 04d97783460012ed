"""The public names are those that are stored, so that none changes unnoticed."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
from docs import public_names

HOW = """
The public names of spancast have changed:
  {changes}
If that is intended: run `.venv/bin/python docs/public_names.py` and `make docs`, check docs/stability.md, and add a line
to CHANGELOG.md. A name that is gone should keep its former form for one minor version, with a warning."""


def test_public_names_are_the_stored_ones() -> None:
    stored = json.loads(public_names.STORED.read_text())
    changes = public_names.changes(stored, public_names.public_names())
    assert not changes, HOW.format(changes="\n  ".join(changes))


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("functions and classes", "spancast.flush(timeout_s=30.0)"),
        ("functions and classes", "spancast.testing.ReplayServer.base_url"),
        ("counts and reports", "DestinationStats.dead_lettered"),
        ("settings", "spool.max_age"),
        ("environment variables", "SPANCAST_STRICT"),
        ("destination fields", "langfuse.public_key"),
        ("commands and options", "spancast traces --since"),
        ("exit statuses", "130"),
        ("attributes", "spancast.usage.cost"),
        ("spool and store", "spool version 1"),
        ("entry points", "spancast.clients (read)"),
    ],
)
def test_name_of_each_kind_is_public_and_its_change_is_listed(section: str, name: str) -> None:
    current = public_names.public_names()
    assert name in current[section]
    changed = deepcopy(current)
    changed[section].remove(name)
    changed[section].append("renamed")
    assert public_names.changes(current, changed) == [f"gone from {section}: {name}", f"new in {section}: renamed"]


def test_stored_list_is_sorted_and_has_no_name_twice() -> None:
    stored = json.loads(public_names.STORED.read_text())
    assert all(names == sorted(set(names)) for names in stored.values())
