"""Drivers of boto3 and aiobotocore; none of one that is not installed."""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.instrumentation.driver import Driver

from spancast.testing import ReplayServer

OPTIONS: dict[str, Any] = {
    "region_name": "eu-central-1", "aws_access_key_id": "a", "aws_secret_access_key": "s",
}  # fmt: skip
CONVERSE: dict[str, Any] = {"modelId": "m-1", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
_MESSAGES = {"role": "user", "content": "hi"}
BODIES: dict[str, dict[str, Any]] = {
    "anthropic": {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 16, "messages": [_MESSAGES]},
    "nova": {"schemaVersion": "messages-v1", "messages": [{"role": "user", "content": [{"text": "hi"}]}]},
    "llama": {"prompt": "hi", "max_gen_len": 16},
    "chat": {"messages": [_MESSAGES]},
    "titan-embed": {"inputText": "hi"},
}
_OPERATIONS = {"llama": "text_completion", "titan-embed": "embeddings"}


def make(server: ReplayServer, service: str = "bedrock-runtime", attempts: int = 1) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": attempts, "mode": "standard"})
    return boto3.client(service, endpoint_url=server.url, config=config, **OPTIONS)


def make_async(server: ReplayServer) -> Any:
    from aiobotocore.session import get_session
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1})
    entering = get_session().create_client("bedrock-runtime", endpoint_url=server.url, config=config, **OPTIONS)
    entered = entering.__aenter__()
    # It awaits nothing.
    try:
        entered.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError


def rows() -> Iterator[Driver]:
    for package, way, maker in (("boto3", "", make), ("aiobotocore", "async-", make_async)):
        if importlib.util.find_spec(package) is not None:
            yield from _rows(way, maker)


def _rows(way: str, maker: Callable[[ReplayServer], Any]) -> Iterator[Driver]:
    from botocore.exceptions import ClientError

    common: dict[str, Any] = {
        "sdk": "bedrock", "make": maker, "is_async": bool(way), "status_error": ClientError, "lacks": ("gen_ai.response.model",),
    }  # fmt: skip
    yield Driver(name=f"{way}converse", path="/converse", call=_caller("converse", CONVERSE, _data), **common)
    yield Driver(
        name=f"{way}converse-stream", path="/converse-stream", stream="iterator",
        call=_caller("converse_stream", CONVERSE, lambda given: given["stream"]), **common,
    )  # fmt: skip
    for family, body in BODIES.items():
        more = {
            **common,
            "operation": _OPERATIONS.get(family, "chat"),
            "lacks": () if family in ("anthropic", "chat") else ("gen_ai.response.model",),
        }
        given = {"modelId": "m-1", "body": json.dumps(body)}
        read = _read_async if way else _read
        yield Driver(name=f"{way}invoke-{family}", path="/invoke", call=_caller("invoke_model", given, read), **more)
        if family != "titan-embed":
            yield Driver(
                name=f"{way}invoke-{family}-stream", path="/invoke-with-response-stream", stream="iterator",
                call=_caller("invoke_model_with_response_stream", given, lambda given: given["body"]), **more,
            )  # fmt: skip


def _data(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "ResponseMetadata"}


def _read(given: dict[str, Any]) -> Any:
    return json.loads(given["body"].read())


async def _read_async(given: dict[str, Any]) -> Any:
    return json.loads(await given["body"].read())


def _caller(method: str, body: dict[str, Any], read: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    def call(client: Any, **keys: Any) -> Any:
        result = getattr(client, method)(**body, **keys)
        return awaited(result) if inspect.isawaitable(result) else read(result)

    async def awaited(result: Any) -> Any:
        value = read(await result)
        return await value if inspect.isawaitable(value) else value

    return call
