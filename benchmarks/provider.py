"""The provider: an in-process transport for the SDK's client, so that no network is measured."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

from benchmarks.cases import Case

CLIENTS = {"chat": "openai", "responses": "openai", "messages": "anthropic"}


def http_client(sdk: ModuleType, case: Case) -> Any:
    """Return an HTTP client for ``sdk`` that returns the response of ``case``; asynchronous if the case is."""
    base = sys.modules[f"{sdk.__name__}._base_client"]
    http = getattr(base, "httpx2", None) or base.httpx
    kind = "text/event-stream; charset=utf-8" if case.is_stream else "application/json"
    headers = [("content-type", kind), ("x-request-id", "req_1")]
    if not case.is_stream:
        headers.append(("content-length", str(len(case.pieces[0]))))

    class Body(http.SyncByteStream, http.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from case.pieces

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in case.pieces:
                yield piece

    class Transport(http.BaseTransport, http.AsyncBaseTransport):
        def handle_request(self, request: Any) -> Any:
            return http.Response(case.status, headers=headers, stream=Body(), request=request)

        async def handle_async_request(self, request: Any) -> Any:
            return http.Response(case.status, headers=headers, stream=Body(), request=request)

    return http.AsyncClient(transport=Transport()) if case.is_async else http.Client(transport=Transport())


def client_class(sdk: ModuleType, case: Case) -> Any:
    name = {"openai": "OpenAI", "anthropic": "Anthropic"}[CLIENTS[case.api]]
    return getattr(sdk, f"Async{name}" if case.is_async else name)


def owner(client: Any, case: Case) -> Any:
    """Return the object whose method ``case`` calls, accessed as in user code."""
    if case.api == "chat":
        return client.chat.completions
    return client.responses if case.api == "responses" else client.messages


def method(client: Any, case: Case) -> Any:
    return owner(client, case).create
