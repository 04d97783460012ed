"""The time to read a request of 40 messages and five tools, against that of Chat Completions."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.dialects.conversations import BODIES, CHAT

from spancast.dialects.registry import find_dialect
from spancast.model import json_codec

LIMIT = 2.0
ATTEMPTS = 5
ROUNDS = 40


def reader(dialect: str, body: Any) -> Callable[[], Any]:
    found, sent = find_dialect(dialect), json_codec.encode(body).encode()
    assert found is not None

    def read() -> Any:
        return found.read_request(json_codec.decode(sent), content=True)

    request = read()
    assert (len(request.messages), len(request.tools)) == (40, 5)
    return read


def shortest_s(*functions: Callable[[], Any]) -> list[float]:
    """Return the shortest time of each of ``functions``, whose runs alternate: a busy machine slows all of them."""
    times: list[list[float]] = [[] for _ in functions]
    gc.disable()
    try:
        for _ in range(ROUNDS):
            for found, function in zip(times, functions, strict=True):
                start = time.perf_counter()
                function()
                found.append(time.perf_counter() - start)
    finally:
        gc.enable()
    return [min(found) for found in times]


@pytest.mark.parametrize("dialect", BODIES)
def test_conversation_of_each_dialect_is_read_in_twice_the_time_of_chat_completions(dialect: str) -> None:
    if dialect == "xai_chat":
        pytest.importorskip("xai_sdk.proto")
    chat, own = reader("openai_chat", CHAT), reader(dialect, BODIES[dialect]())
    ratios: list[float] = []
    for _ in range(ATTEMPTS):
        chat_s, own_s = shortest_s(chat, own)
        ratios.append(own_s / chat_s)
        if ratios[-1] <= LIMIT:
            return
    pytest.fail(f"{dialect} takes {min(ratios):.2f} times as long")
