"""Random calls of every SDK with answers that are often broken, each made without and with spancast.

A trial compares what the caller gets and what the server got, and looks for what had arrived in the span. The seed gives
the driver, the recorded answer, the damage to it, the keys, and how the caller leaves a stream.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from tests.contract.test_every_client import close, outcome
from tests.dialects.streams import recordings
from tests.dialects.test_mutated_recordings import CONTENT, all_texts, lost_texts, pieces
from tests.instrumentation.drivers import DRIVERS, Driver
from tests.instrumentation.http_drivers import HTTP_LIBRARIES

from spancast.dialects.anthropic_messages.reader import ANTHROPIC_MESSAGES
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_responses.reader import OPENAI_RESPONSES
from spancast.dialects.protocol import Dialect
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

_DIALECTS: Final[dict[str, Dialect]] = {
    "/chat/completions": OPENAI_CHAT, "/responses": OPENAI_RESPONSES, "/messages": ANTHROPIC_MESSAGES,
    ":rawPredict": ANTHROPIC_MESSAGES, ":streamRawPredict": ANTHROPIC_MESSAGES,
}  # fmt: skip
ATTACKED: Final = [
    driver
    for driver in DRIVERS
    if driver.path in _DIALECTS
    and driver.operation == "chat"
    and driver.has_clients
    and driver.sdk not in HTTP_LIBRARIES
]
_KEYS: Final[Sequence[dict[str, Any]]] = (
    {}, {}, {"session_id": "s"}, {"trace": {"trace_name": "T", "price": Decimal("0.1"), "tags": {"a"}, "n": float("nan")}},
    {"session_id": 7, "trace": "no object"}, {"trace": {"text": "\ud800", 5: b"\xff", "": None}},
)  # fmt: skip
_ODD: Final[Sequence[Any]] = (None, 0, -1, 1 << 70, 1e300, "", "text", [], {}, [None], {"a": 1}, True)


@functools.cache
def _recorded(dialect: str, kind: str) -> list[Any]:
    return [case[kind] for _, case in sorted(recordings(dialect).items()) if case.get(kind)]


# --- damage ------------------------------------------------------------------------------------------


def _odd_value(chance: random.Random, wire: Any) -> Any:
    """Return ``wire`` with one value of another type."""
    wire = json.loads(json.dumps(wire))
    inner, key = [wire], 0
    while isinstance(inner[key], (dict, list)) and inner[key] and chance.random() < 0.85:
        inner = inner[key]
        key = chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
    if inner[key] is not wire:
        inner[key] = chance.choice(_ODD)
    return wire


def _odd_text(chance: random.Random, body: bytes) -> bytes:
    """Return a body with JSON that only some readers accept."""
    old, new = chance.choice(
        ((rb'": "?[a-z]', rb'": "\\ud800'), (rb": \d+", b": NaN"), (rb": \d+", b": 1e999"), (rb"^", b"\xef\xbb\xbf"))
    )
    return re.sub(old, new, body, count=1)


def _cut(chance: random.Random, body: bytes) -> bytes:
    return body[: chance.randrange(len(body) + 1)]


def _flipped(chance: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.choice((1, 3, 20))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _same(_: random.Random, body: bytes) -> bytes:
    return body


_DAMAGES: Final[Sequence[Callable[[random.Random, bytes], bytes]]] = (_same, _same, _same, _odd_text, _cut, _flipped)


def _frame(event: Any) -> bytes:
    name = f"event: {event['type']}\n" if isinstance(event, dict) and isinstance(event.get("type"), str) else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def _reply(chance: random.Random, dialect: Dialect, *, is_stream: bool) -> tuple[Reply, Any]:
    """Return a reply, and its answer or events if they arrive as they were recorded."""
    wire = chance.choice(_recorded(dialect.name, "stream" if is_stream else "response"))
    damage = chance.choice(_DAMAGES)
    if chance.random() < 0.3:
        wire, damage = _odd_value(chance, wire), _same
    known = wire if damage is _same else None
    if is_stream:
        end = b"data: [DONE]\n\n" if dialect is OPENAI_CHAT else b""
        body = damage(chance, b"".join(map(_frame, wire if isinstance(wire, list) else [wire])) + end)
        body = body.replace(b"\n", b"\r\n") if chance.random() < 0.1 else body
        size = chance.choice((None, 1, 7, 300))
        return Reply.sse(
            body, piece_bytes=size if size != 1 or len(body) < 3000 else 50, cut=chance.random() < 0.2
        ), known
    body = damage(chance, json.dumps(wire).encode() or b"{}")
    status = chance.choice((200, 200, 200, 200, 200, 200, 400, 429, 500, 302))
    kind = chance.choice(("application/json",) * 8 + ("text/plain", "text/html"))
    head = f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    return Reply.raw(head.encode() + body), known if status == 200 else None


# --- trials ------------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    """Return everything the caller can see of a result."""
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    data = value.model_dump(warnings=False) if hasattr(value, "model_dump") else getattr(value, "__dict__", value)
    return f"{type(value).__qualname__} {data!r}"


async def _seen(driver: Driver, client: Any, take: int | None, keys: dict[str, Any]) -> tuple[str, Any]:
    try:
        result = await outcome(driver, client, take=take, **keys)
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises
        return f"{type(error).__qualname__}: {error}", None
    return _shown(result), result


async def _abandoned(spans: CapturedSpans) -> None:
    """Let an abandoned stream end: the event loop closes an asynchronous one some turns later."""
    for turn in range(200):
        if spans.calls():
            return
        gc.collect(1 if turn % 50 else 2)
        await asyncio.sleep(0)


class Caller:
    """The clients of one driver, one of them instrumented."""

    def __init__(self, driver: Driver, server: ReplayServer, spans: CapturedSpans) -> None:
        self.driver, self.server, self.spans = driver, server, spans
        self._plain, self._traced = driver.make(server), driver.instrument(driver.make(server))

    async def close(self) -> None:
        await close(self.driver, self._plain)
        await close(self.driver, self._traced)

    async def trial(self, seed: int) -> str:
        """Return what is wrong with the call ``seed``, empty if nothing is."""
        driver, chance = self.driver, random.Random(f"{self.driver.id} {seed}")
        dialect, is_stream = _DIALECTS[driver.path], bool(driver.stream)
        reply, wire = _reply(chance, dialect, is_stream=is_stream)
        take = chance.choice((None, None, 1, 3)) if is_stream else None
        keys = chance.choice(_KEYS) if not driver.sends_keys else {}
        self.server.reply(reply, reply)
        plain, _ = await _seen(driver, self._plain, take, {})
        traced, result = await _seen(driver, self._traced, take, keys)
        # A generator of an SDK that has raised above our wrapper ends when it is collected.
        if take is not None or not self.spans.calls():
            await _abandoned(self.spans)
        sent = [request.raw for request in self.server.requests[-2:]]
        calls = self.spans.calls()
        self.spans.clear()
        if plain != traced:
            return f"the caller got {traced[:600]}\n instead of {plain[:600]}"
        if sent[0] != sent[1]:
            return f"the server got {sent[1]!r}\n instead of {sent[0]!r}"
        if len(calls) != 1:
            return f"{len(calls)} spans"
        output = attributes(calls[0]).get("gen_ai.output.messages", [])
        lost = _lost(driver, dialect, wire, result, output) if wire is not None else []
        return f"lost {lost} in {output}" if lost else ""


def _lost(driver: Driver, dialect: Dialect, wire: Any, result: Any, output: Any) -> list[str]:
    """Return the texts that the caller got, and of a whole answer those on the wire, that are not in ``output``."""
    if driver.stream == "iterator":
        found = all_texts(output)
        return [text for chunk in result or () for text in _pieces(dialect, chunk) if text not in found]
    if driver.stream or not isinstance(wire, dict):
        return []
    return lost_texts(CONTENT[dialect.name](wire), output)


def _pieces(dialect: Dialect, chunk: Any) -> Iterator[str]:
    data = chunk.model_dump(warnings=False) if hasattr(chunk, "model_dump") else None
    if isinstance(data, dict):
        try:
            yield from pieces(dialect, data)
        except (AttributeError, TypeError, KeyError):
            # An odd value in the place of an object.
            return


async def trials(server: ReplayServer, spans: CapturedSpans, seeds: Sequence[int]) -> tuple[int, dict[str, str]]:
    """Return how many calls were made with every driver and ``seeds``, and what is wrong with which of them."""
    wrong: dict[str, str] = {}
    for driver in ATTACKED:
        caller = Caller(driver, server, spans)
        for seed in seeds:
            if found := await caller.trial(seed):
                wrong[f"{driver.id} {seed}"] = found
        await caller.close()
    return len(ATTACKED) * len(seeds), wrong
