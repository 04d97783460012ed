"""A gRPC server of xAI's API in front of a replay server, with the same scripted replies.

A call is one HTTP request to the replay server, with the JSON form of its protocol buffer. An error status ends the
call with a gRPC status; a connection that is cut in a stream, too.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import urllib3
from google.protobuf.json_format import MessageToDict, ParseDict
from xai_sdk.chat import chat_pb2

from spancast.testing import ReplayServer

_STATUSES = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED, 404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
}  # fmt: skip
_SERVICE = "xai_api.Chat"


_addresses: weakref.WeakKeyDictionary[ReplayServer, str] = weakref.WeakKeyDictionary()


def address_of(server: ReplayServer) -> str:
    """Return the address of the gRPC server before ``server``, which ends with it."""
    if server not in _addresses:
        _addresses[server] = _start(weakref.proxy(server), server)
    return _addresses[server]


def _start(server: ReplayServer, owner: ReplayServer) -> str:
    handlers = {
        "GetCompletion": grpc.unary_unary_rpc_method_handler(
            lambda request, context: _whole(server, request, context),
            chat_pb2.GetCompletionsRequest.FromString, chat_pb2.GetChatCompletionResponse.SerializeToString,
        ),
        "GetCompletionChunk": grpc.unary_stream_rpc_method_handler(
            lambda request, context: _chunks(server, request, context),
            chat_pb2.GetCompletionsRequest.FromString, chat_pb2.GetChatCompletionChunk.SerializeToString,
        ),
    }  # fmt: skip
    bridge = grpc.server(futures.ThreadPoolExecutor(2))
    bridge.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = bridge.add_insecure_port("127.0.0.1:0")
    bridge.start()
    weakref.finalize(owner, bridge.stop, None)
    return f"127.0.0.1:{port}"


def _posted(server: ReplayServer, method: str, request: Any, context: Any) -> urllib3.BaseHTTPResponse:
    body = json.dumps(MessageToDict(request, preserving_proto_field_name=True))
    url, headers = f"{server.url}/{_SERVICE}/{method}", {"connection": "close"}
    response = urllib3.PoolManager(retries=False).request(
        "POST", url, body=body, headers=headers, preload_content=False
    )
    if response.status != 200:
        context.abort(_STATUSES.get(response.status, grpc.StatusCode.INTERNAL), response.read().decode())
    return response


def _whole(server: ReplayServer, request: Any, context: Any) -> Any:
    with _posted(server, "GetCompletion", request, context) as response:
        return ParseDict(json.loads(response.read()), chat_pb2.GetChatCompletionResponse())


def _chunks(server: ReplayServer, request: Any, context: Any) -> Iterator[Any]:
    received = b""
    try:
        with _posted(server, "GetCompletionChunk", request, context) as response:
            for piece in response.stream():
                *lines, received = (received + piece).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: {"):
                        yield ParseDict(json.loads(line[6:]), chat_pb2.GetChatCompletionChunk())
    except urllib3.exceptions.HTTPError:
        context.abort(grpc.StatusCode.ABORTED, "the connection was cut")
