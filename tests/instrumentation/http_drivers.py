"""Drivers of HTTP libraries, whose calls are made without an SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
import requests
import urllib3
from tests.instrumentation.driver import MESSAGES, Driver

from spancast.testing import ReplayServer

HTTP_LIBRARIES = ("httpx", "httpx2", "requests", "aiohttp", "urllib3")


class StatusError(Exception):
    """What the program raises for a response that reports an error."""


def _body(keys: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    body = {"model": "m-1", "messages": MESSAGES, **keys}
    return {**body, **body.pop("extra_body", {}), **({"stream": True} if stream else {})}


def _checked(status: int, text: Any) -> None:
    if status >= 400:
        raise StatusError(f"{status}: {text}")


def _event(line: str | bytes) -> Any:
    data = (line.decode() if isinstance(line, bytes) else line).strip().removeprefix("data: ")
    return SimpleNamespace(**json.loads(data)) if data.startswith("{") else None


class Events:
    """The events of a response that is open; the response is closed with this."""

    def __init__(self, response: Any, lines: Iterator[Any]) -> None:
        self._response = response
        self._lines = lines

    def __iter__(self) -> Iterator[Any]:
        return filter(None, map(_event, self._lines))

    def close(self) -> None:
        self._response.close()


class AsyncEvents:
    """The events of a response that is open; the response is closed with this."""

    def __init__(self, response: Any, lines: AsyncIterator[Any]) -> None:
        self._response = response
        self._lines = lines

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for line in self._lines:
                event = _event(line)
                if event is not None:
                    yield event
        except aiohttp.ClientError:
            self._response.close()
            raise

    async def close(self) -> None:
        if hasattr(self._response, "aclose"):
            await self._response.aclose()
        else:
            self._response.close()


def _httpx(client: Any, *, stream: bool = False, **keys: Any) -> Any:
    request = client.build_request("POST", "/chat/completions", json=_body(keys, stream=stream))
    response = client.send(request, stream=stream)
    if response.status_code >= 400:
        _checked(response.status_code, response.read())
    return Events(response, response.iter_lines()) if stream else SimpleNamespace(**response.json())


async def _async_httpx(client: Any, *, stream: bool = False, **keys: Any) -> Any:
    request = client.build_request("POST", "/chat/completions", json=_body(keys, stream=stream))
    response = await client.send(request, stream=stream)
    if response.status_code >= 400:
        _checked(response.status_code, await response.aread())
    return AsyncEvents(response, response.aiter_lines()) if stream else SimpleNamespace(**response.json())


def _requests(session: Any, *, stream: bool = False, **keys: Any) -> Any:
    response = session.post(f"{session.url}/chat/completions", json=_body(keys, stream=stream), stream=stream)
    if response.status_code >= 400:
        _checked(response.status_code, response.text)
    return Events(response, response.iter_lines(8)) if stream else SimpleNamespace(**response.json())


def _urllib3(pool: Any, *, stream: bool = False, **keys: Any) -> Any:
    body = _body(keys, stream=stream)
    response = pool.request("POST", f"{pool.url}/chat/completions", json=body, preload_content=not stream)
    if response.status >= 400:
        _checked(response.status, response.data)
    return Events(response, iter(response)) if stream else SimpleNamespace(**response.json())


async def _aiohttp(session: Any, *, stream: bool = False, **keys: Any) -> Any:
    response = await session.post("/v1/chat/completions", json=_body(keys, stream=stream))
    if response.status >= 400:
        _checked(response.status, await response.text())
    return AsyncEvents(response, aiter(response.content)) if stream else SimpleNamespace(**await response.json())


class _Session(requests.Session):
    __attrs__ = [*requests.Session.__attrs__, "url"]  # noqa: RUF012 - what a copy has
    url: str


def _session(server: ReplayServer) -> requests.Session:
    session = _Session()
    session.url = server.base_url
    return session


def _pool(server: ReplayServer) -> urllib3.PoolManager:
    pool = urllib3.PoolManager(retries=False)
    pool.url = server.base_url  # pyright: ignore[reportAttributeAccessIssue]
    return pool


def rows() -> Iterator[Driver]:
    makers: list[tuple[str, Any, Any]] = [
        ("requests", _session, _requests),
        ("urllib3", _pool, _urllib3),
        ("aiohttp", lambda server: aiohttp.ClientSession(base_url=server.url), _aiohttp),
        ("httpx", lambda server: httpx.Client(base_url=server.base_url), _httpx),
        ("httpx", lambda server: httpx.AsyncClient(base_url=server.base_url), _async_httpx),
    ]
    try:
        import httpx2
    except ImportError:
        pass
    else:
        makers += [
            ("httpx2", lambda server: httpx2.Client(base_url=server.base_url), _httpx),
            ("httpx2", lambda server: httpx2.AsyncClient(base_url=server.base_url), _async_httpx),
        ]
    for sdk, make, call in makers:
        is_async = call in (_async_httpx, _aiohttp)
        way = "async-" if is_async else ""
        common: dict[str, Any] = {
            "sdk": sdk, "make": make, "is_async": is_async, "path": "/chat/completions", "status_error": StatusError,
        }  # fmt: skip
        yield Driver(name=f"{way}chat", call=call, **common)
        yield Driver(
            name=f"{way}chat-stream",
            stream="iterator",
            call=lambda c, call=call, **k: call(c, stream=True, **k),
            **common,
        )
