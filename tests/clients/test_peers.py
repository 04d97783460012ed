"""Other instrumentations installed beside ours: never a second span for one call (pains A12)."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import Any

import pytest
from tests.clients.peers_program import PEERS

from spancast.testing import ReplayServer

Spans = list[tuple[str, dict[str, Any]]]


@functools.cache
def spans_of(peer: str) -> dict[str, Spans]:
    with ReplayServer() as server:
        command = [sys.executable, "-m", "tests.clients.peers_program", peer, server.base_url]
        return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)


@pytest.mark.parametrize("case", ["whole", "streamed"])
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_around_us_keeps_its_span_and_gets_our_keys(peer: str, case: str) -> None:
    [(scope, attributes)] = spans_of(peer)[case]
    assert scope != "spancast"
    assert attributes.items() >= {"session.id": "chat-42", "trace.metadata.tier": 2}.items()


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_inside_a_decorated_call_is_quiet(peer: str) -> None:
    scopes = [scope for scope, _ in spans_of(peer)["decorated"]]
    if peer == "openinference":
        # It honours only the key that would silence HTTP instrumentations too, which users want to keep.
        assert scopes.count("spancast") == 1
    else:
        assert scopes == ["spancast"]
