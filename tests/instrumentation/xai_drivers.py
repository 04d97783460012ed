"""Drivers of xai-sdk, which talks gRPC to a bridge before the replay server; none if it is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from tests.instrumentation.driver import Driver

from spancast.testing import ReplayServer


def _maker(kind: Any) -> Any:
    from tests.instrumentation import grpc_bridge

    def make(server: ReplayServer) -> Any:
        return kind(api_key="test", api_host=grpc_bridge.address_of(server), use_insecure_channel=True)

    return make


def rows() -> Iterator[Driver]:
    if importlib.util.find_spec("xai_sdk") is None:
        return
    import grpc
    import xai_sdk
    from xai_sdk.chat import user

    def chat(client: Any, **keys: Any) -> Any:
        return client.chat.create(model="m-1", messages=[user("hi")], **keys)

    for kind, way in ((xai_sdk.Client, ""), (xai_sdk.AsyncClient, "async-")):
        common: dict[str, Any] = {
            "sdk": "xai", "is_async": bool(way), "status_error": grpc.RpcError, "make": _maker(kind),
            "forwards_keys": False, "error_types": ("RESOURCE_EXHAUSTED",),
        }  # fmt: skip
        whole = {**common, "path": "/xai_api.Chat/GetCompletion"}
        stream = {**common, "path": "/xai_api.Chat/GetCompletionChunk", "stream": "iterator", "starts_late": True}
        yield Driver(name=f"{way}sample", call=lambda c, **k: chat(c, **k).sample(), **whole)
        yield Driver(name=f"{way}stream", call=lambda c, **k: chat(c, **k).stream(), **stream)
