"""Patches of azure-ai-inference: chat completions and embeddings.

Request and response are kept where they pass the pipeline of azure-core. Trace keys that are sent are put into
``model_extras``.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterator
from typing import Any, Final

from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.dialects.protocol import Dialect
from spancast.instrumentation.call_keys import NAMES
from spancast.instrumentation.http_body import ArrivedPieces
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Method, Patch
from spancast.instrumentation.stainless import session_header
from spancast.instrumentation.stream_recorder import AsyncRecordingIterator, StreamRecorder, record_iterator
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model import json_codec
from spancast.model.providers import provided_by
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import CURRENT_CALL, TracedCall

_NOT_BODY: Final = frozenset(("content_type", "error_map", "headers", "model_extras", "params"))
_EXTRAS: Final = "model_extras"
_DONE: Final = b"data: [DONE]"
_INSTRUMENTED: Final = InstrumentedClients()


class _Method(CallDescription):
    """``complete`` or ``embed``: the request is its keyword arguments, or one mapping, until it is sent."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's client
        """Start a call; remove trace keys from its arguments, except the forwarded ones."""
        if not _INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        given: Any = args[0] if args else kwargs.get("body")
        is_mapping = json_codec.is_mapping(given)
        body = dict(given) if is_mapping else {name: kwargs[name] for name in kwargs if name not in _NOT_BODY}
        body |= {"model": body.get("model") or owner._model, **{name: kwargs[name] for name in NAMES & kwargs.keys()}}  # noqa: SLF001
        server = provided_by("azure.ai.inference", owner._config.endpoint)  # noqa: SLF001
        header = session_header((kwargs.get("headers"), None))
        traced_call = CALL_TRACER.start_call(self._dialect, body, server, header, parse_now=False)
        forwarded = traced_call.forwarded() if traced_call is not None and traced_call.keys.enabled else None
        sent = {name: value for name, value in (forwarded or {}).items() if value is not None}
        kwargs = {name: value for name, value in kwargs.items() if name not in NAMES}
        if is_mapping and (sent or not NAMES.isdisjoint(given)):
            changed = {**{name: given[name] for name in given if name not in NAMES}, **sent}
            args, kwargs = ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "body": changed})
        elif sent:
            kwargs[_EXTRAS] = {**(kwargs.get(_EXTRAS) or owner._model_extras or {}), **sent}  # noqa: SLF001
        return traced_call, args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> None:  # noqa: ANN401, ARG002 - the SDK's result
        """Record a stream, in place, or a response, from its bytes."""
        response, traced_call.http_response = traced_call.http_response, None
        blocks = getattr(result, "_bytes_iterator", None)
        if blocks is None and response is None:
            traced_call.end_with(result)
        elif blocks is None:
            traced_call.end_with_bytes(response.content)
        else:
            _record_stream(traced_call, result, blocks)


class _AsyncBlocks(AsyncRecordingIterator):
    """The blocks of an asynchronous stream, whose end is the end marker: the SDK reads no further."""

    async def __anext__(self) -> Any:  # noqa: ANN401 - bytes
        """Return the next block."""
        block = await super().__anext__()
        if _DONE in block:
            self._recorder.end()
        return block


def _blocks(blocks: Iterator[bytes], recorder: StreamRecorder) -> Generator[bytes, Any, None]:
    for block in record_iterator(blocks, recorder):
        if _DONE in block:
            recorder.end()
        yield block


def _record_stream(traced_call: TracedCall, stream: Any, blocks: Any) -> None:  # noqa: ANN401 - the SDK's stream
    recorder = StreamRecorder(traced_call, ArrivedPieces(traced_call))
    # The methods below would keep the stream alive.
    held: Any = weakref.ref(stream)
    kind: Any = type(stream)  # pyright: ignore[reportUnknownVariableType]
    if hasattr(blocks, "__anext__"):

        async def aclose() -> None:
            try:
                await kind.aclose(held())
            finally:
                recorder.closed()

        stream._bytes_iterator = _AsyncBlocks(blocks, recorder)  # noqa: SLF001
        stream.aclose = aclose
        return

    def close() -> None:
        try:
            kind.close(held())
        finally:
            recorder.closed()

    stream._bytes_iterator = _blocks(blocks, recorder)  # noqa: SLF001
    stream.close = close


def _keep_exchange(method: Method) -> Method:
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - azure-core's response
        return _kept(args, method(*args, **kwargs))

    return wrapper


def _keep_exchange_async(method: Method) -> Method:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - azure-core's response
        return _kept(args, await method(*args, **kwargs))

    return wrapper


def _kept(args: tuple[Any, ...], result: Any) -> Any:  # noqa: ANN401 - azure-core's response
    traced_call = CURRENT_CALL.get()
    if traced_call is not None:
        traced_call.http_response = result.http_response
        content = getattr(args[1] if len(args) > 1 else None, "content", None)
        if isinstance(content, (str, bytes)):
            traced_call.set_request_bytes(content.encode() if isinstance(content, str) else content)
    return result


_CHAT: Final = wrap_call(_Method(OPENAI_CHAT))
_EMBED: Final = wrap_call(_Method(OPENAI_EMBEDDINGS))
_SYNC: Final = "azure.ai.inference._patch"
_ASYNC: Final = "azure.ai.inference.aio._patch"

PATCHES: Final = ClientPatches(
    dialects=(OPENAI_CHAT.name, OPENAI_EMBEDDINGS.name),
    instrumented=_INSTRUMENTED,
    patches=(
        Patch(_SYNC, "ChatCompletionsClient.complete", _CHAT.sync),
        Patch(_ASYNC, "ChatCompletionsClient.complete", _CHAT.asynchronous),
        Patch(_SYNC, "EmbeddingsClient.embed", _EMBED.sync),
        Patch(_ASYNC, "EmbeddingsClient.embed", _EMBED.asynchronous),
        Patch("azure.core.pipeline._base", "Pipeline.run", _keep_exchange),
        Patch("azure.core.pipeline._base_async", "AsyncPipeline.run", _keep_exchange_async),
    ),
    instance_patches=(
        InstancePatch("complete", _CHAT.sync, _CHAT.asynchronous, "ChatCompletionsClient"),
        InstancePatch("embed", _EMBED.sync, _EMBED.asynchronous, "EmbeddingsClient"),
        InstancePatch("_client._pipeline.run", _keep_exchange, _keep_exchange_async),
    ),
)
