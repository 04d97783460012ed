"""The three providers of the demo: their SDKs, or plain HTTP requests if an SDK is not installed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Final

import urllib3

import spancast
from spancast.testing import ReplayServer

Call = Callable[..., Any]
_DATA: Final = b"data: "
_DONE: Final = b"[DONE]"
_FIRST_ERROR: Final = 400
_KEY: Final = "demo"
_WARM_UP: Final[dict[str, Any]] = {
    "model": "warm-up",
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "Hello?"}],
}


class RefusedError(Exception):
    """A request that was answered with an HTTP error."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A server of a real model with all three APIs, in place of the scripted one."""

    url: str

    @property
    def base_url(self) -> str:
        """Return the base URL of the OpenAI-compatible API."""
        return f"{self.url}/v1"


@dataclass(frozen=True, slots=True)
class Provider:
    """An instrumented client: ``call`` and ``stream`` take the request, and the stream is read to its end.

    ``about`` is the SDK and its version, empty if the requests are plain HTTP. ``refused`` is the exception of an
    answer with status 429.
    """

    name: str
    about: str
    call: Call
    stream: Call
    close: Callable[[], None]
    refused: type[Exception] = RefusedError


def connect(server: ReplayServer | Engine, *, with_sdks: bool = True) -> dict[str, Provider]:
    """Return the providers by name; every client is imported, connected and warm, so that spans time only the calls."""
    makers = {"openai": _openai, "anthropic": _anthropic, "openrouter": _openrouter}
    return {
        name: make(server) if with_sdks and find_spec(name) else _plain_http(name, server)
        for name, make in makers.items()
    }


def _about(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return name


def _openai(server: ReplayServer | Engine) -> Provider:
    openai = import_module("openai")
    client = openai.OpenAI(base_url=server.base_url, api_key=_KEY, max_retries=0)
    create = client.chat.completions.create
    create(**_WARM_UP)
    list(create(**_WARM_UP, stream=True))
    spancast.instrument(client)

    def stream(**request: Any) -> None:  # noqa: ANN401 - a request
        for _ in client.chat.completions.create(**request, stream=True):
            pass

    return Provider(
        "openai", _about("openai"), client.chat.completions.create, stream, client.close, openai.RateLimitError
    )


def _anthropic(server: ReplayServer | Engine) -> Provider:
    client = import_module("anthropic").Anthropic(base_url=server.url, api_key=_KEY, max_retries=0)

    def stream(**request: Any) -> None:  # noqa: ANN401
        with client.messages.stream(**request) as running:
            running.until_done()

    stream(**_WARM_UP)
    spancast.instrument(client)
    return Provider("anthropic", _about("anthropic"), client.messages.create, stream, client.close)


def _openrouter(server: ReplayServer | Engine) -> Provider:
    client = import_module("openrouter").OpenRouter(api_key=_KEY, server_url=server.base_url)
    client.chat.send(**_WARM_UP)
    spancast.instrument(client)

    def stream(**request: Any) -> None:  # noqa: ANN401
        with client.chat.send(**request, stream=True) as events:
            for _ in events:
                pass

    def close() -> None:
        client.__exit__(None, None, None)

    return Provider("openrouter", _about("openrouter"), client.chat.send, stream, close)


def _plain_http(name: str, server: ReplayServer | Engine) -> Provider:
    """Return decorated functions that post JSON: for code without an SDK."""
    is_anthropic = name == "anthropic"
    url = f"{server.base_url}/{'messages' if is_anthropic else 'chat/completions'}"
    pool = urllib3.PoolManager(retries=False)

    def post(request: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        response = pool.request("POST", url, json=request, preload_content=not request.get("stream"))
        if response.status >= _FIRST_ERROR:
            raise RefusedError(f"HTTP {response.status}: {response.json()['error']['message']}")
        return response

    decorated = spancast.instrument(
        dialect="anthropic_messages" if is_anthropic else "openai_chat", base_url=server.base_url
    )

    def call(**request: Any) -> Any:  # noqa: ANN401
        return post(request).json()

    def events(**request: Any) -> Iterator[Any]:  # noqa: ANN401
        with contextlib.closing(post({**request, "stream": True})) as response:
            for line in response:
                data = line.removeprefix(_DATA).strip()
                if data != line.strip() and data != _DONE:
                    yield json.loads(data)

    call(**_WARM_UP)
    stream = decorated(events)

    def read(**request: Any) -> None:  # noqa: ANN401
        for _ in stream(**request):
            pass

    return Provider(name, "", decorated(call), read, pool.clear)
