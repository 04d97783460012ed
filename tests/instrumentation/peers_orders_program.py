"""Wrap openai with another library and with spancast, make calls, remove both; print the results.

Run by ``test_other_instrumentations.py`` in a process of its own: some libraries leave wrappers when removed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import openai
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.resources.responses import AsyncResponses, Responses
from peer_libraries import ROWS, Peer

import spancast
from spancast.testing import CapturedSpans, captured_spans

MESSAGES: Any = [{"role": "user", "content": "hi"}]
CHAT: Any = {"model": "m", "messages": MESSAGES}
RESPONSE: Any = {"model": "m", "input": "hi"}


LOOP = asyncio.new_event_loop()
CHANGING = {"id", "created", "created_at", "completed_at", "item_id", "response_id"}


def as_json(answer: Any) -> Any:
    dumped = answer.model_dump(mode="json", warnings=False) if hasattr(answer, "model_dump") else answer
    return _unchanging(dumped)


def _unchanging(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unchanging(one) for name, one in value.items() if name not in CHANGING}
    return [_unchanging(one) for one in value] if isinstance(value, list) else value


async def _chunks(stream: Any) -> list[Any]:
    return [as_json(chunk) async for chunk in stream if _is_content(chunk)]


def _is_content(chunk: Any) -> bool:
    """Return False for the usage chunk, which some libraries request themselves."""
    return bool(getattr(chunk, "choices", True))


async def _awaited(client: Any, method: str, **request: Any) -> Any:
    answer = await _method(client, method)(**request)
    return await _chunks(answer) if request.get("stream") else as_json(answer)


def _method(client: Any, path: str) -> Any:
    for name in path.split("."):
        client = getattr(client, name)
    return client


def call(clients: dict[str, Any], way: str, **keys: Any) -> Any:
    """Return the response of one call, as JSON."""
    kind, method, *streamed = way.split(" ")
    request = {**(RESPONSE if method.startswith("responses") else CHAT), **keys}
    if streamed:
        request["stream"] = True
    if kind == "async":
        return LOOP.run_until_complete(_awaited(clients["async"], method, **request))
    answer = _method(clients["sync"], method)(**request)
    return [as_json(chunk) for chunk in answer if _is_content(chunk)] if streamed else as_json(answer)


WAYS = [
    "sync chat.completions.create", "sync chat.completions.create stream", "async chat.completions.create",
    "async chat.completions.create stream", "sync responses.create", "async responses.create",
    "sync responses.create stream", "sync chat.completions.parse", "async chat.completions.parse",
]  # fmt: skip


SOME = ["sync chat.completions.create", "async chat.completions.create", "sync responses.create"]


class Program:
    """Both libraries, and the clients of this process."""

    def __init__(self, peer: Peer, spans: CapturedSpans, base_url: str, ours: str) -> None:
        self.peer, self.spans, self.base_url, self.ours = peer, spans, base_url, ours
        self.clients: dict[str, Any] = self.plain()
        self.expected = {way: call(self.plain(), way) for way in WAYS}

    def plain(self) -> dict[str, Any]:
        return {
            "sync": openai.OpenAI(base_url=self.base_url, api_key="k", max_retries=0),
            "async": openai.AsyncOpenAI(base_url=self.base_url, api_key="k", max_retries=0),
        }

    def ours_on(self) -> None:
        for target in ["openai"] if self.ours == "class" else self.clients.values():
            spancast.instrument(target)

    def ours_off(self) -> None:
        for target in ["openai"] if self.ours == "class" else self.clients.values():
            spancast.uninstrument(target)

    def peer_on(self) -> None:
        self.peer.on(None)
        self.clients = {name: self.peer.on(client) for name, client in self.clients.items()}

    def peer_off(self) -> None:
        if self.peer.off is not None:
            self.peer.off()

    def calls(self, ways: list[str], **keys: Any) -> dict[str, Any]:
        """Return for each way: whether the response is the SDK's, our spans, the other's, the sessions of ours."""
        found: dict[str, Any] = {}
        for way in ways:
            self.spans.clear()
            before = self.peer.recorded()
            try:
                same: Any = call(self.clients, way, **keys) == self.expected[way]
            except Exception as error:  # noqa: BLE001 - reported
                same = f"{type(error).__name__}: {error}"[:200]
            ours = [s for s in self.spans.all() if s.instrumentation_scope.name == "spancast"]
            found[way] = [
                same,
                len(ours),
                self.peer.recorded() - before,
                [(s.attributes or {}).get("session.id") for s in ours],
            ]
        return found

    def run(self, order: str, off: str, ways: list[str]) -> dict[str, Any]:
        """Apply both and remove them, the ``last`` or the ``first`` one before the other."""
        before = standing()
        steps = [("peer", self.peer_on, self.peer_off), ("ours", self.ours_on, self.ours_off)]
        if order == "ours first":
            steps.reverse()
        for _, on, _ in steps:
            on()
        found: dict[str, Any] = {"both": self.calls(ways), "keys": self.calls(SOME, session_id="s-1")}
        if off == "last":
            steps.reverse()
        (name, _, take_off), (other, put_back, take_other_off) = steps
        take_off()
        found[f"without {name}"] = self.calls(SOME)
        if other == "ours":
            put_back()
            found["ours again"] = self.calls(SOME)
        take_other_off()
        found["neither"] = self.calls(SOME)
        found["changed"] = [name for name, held in standing().items() if held is not before[name]]
        return found


def standing() -> dict[str, Any]:
    """Return the methods of the SDK's classes."""
    kinds = [
        openai._base_client.SyncAPIClient, openai._base_client.AsyncAPIClient, openai.OpenAI, openai.AsyncOpenAI,
        Completions, AsyncCompletions, Responses, AsyncResponses,
    ]  # fmt: skip
    names = ("request", "_process_response", "create", "parse", "stream")
    return {f"{kind.__name__}.{name}": getattr(kind, name, None) for kind in kinds for name in names}


def main(peer: str, ours: str, order: str, base_url: str) -> None:
    with captured_spans() as spans:
        program = Program(ROWS[peer].start(), spans, base_url, ours)
        found = {"last": program.run(order, "last", WAYS)}
        if program.peer.off is not None and not ROWS[peer].stays:
            found["first"] = program.run(order, "first", SOME)
        print(json.dumps(found, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
