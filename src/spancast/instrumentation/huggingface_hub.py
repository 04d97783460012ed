"""Patches of huggingface_hub: chat completions, text generation and feature extraction of its two clients.

Every inference call passes ``_inner_post`` with its final URL and JSON. It returns the bytes of the response, or the
lines of its server-sent events. A provider has the format of OpenAI, or that of Hugging Face's servers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from spancast.dialects.huggingface.embed import HUGGINGFACE_EMBED
from spancast.dialects.huggingface.generate import HUGGINGFACE_GENERATE
from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.dialects.protocol import Dialect
from spancast.instrumentation.call_keys import NAMES, KeyHooks, has_keys, keys_of_call
from spancast.instrumentation.http_body import ArrivedPieces
from spancast.instrumentation.patching import (
    ClientPatches,
    InstancePatch,
    InstrumentedClients,
    Method,
    Patch,
    hide_frame,
)
from spancast.instrumentation.stainless import keys_into_extra_body, session_header
from spancast.instrumentation.stream_recorder import AsyncRecordingIterator, StreamRecorder, record_iterator
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model import json_codec
from spancast.model.json_data import sendable
from spancast.model.providers import provided_by
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import TracedCall

_DIALECTS: Final[dict[str, tuple[Dialect, Dialect]]] = {
    "conversational": (OPENAI_CHAT, OPENAI_CHAT),
    "text-generation": (OPENAI_COMPLETIONS, HUGGINGFACE_GENERATE),
    "feature-extraction": (OPENAI_EMBEDDINGS, HUGGINGFACE_EMBED),
}
"""The dialects of a task: that of OpenAI, and that of requests with ``inputs``."""
_INSTRUMENTED: Final = InstrumentedClients()


class _Post(CallDescription):
    """``_inner_post``, for tasks of language models."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's client
        """Start a call; remove the trace keys from its JSON, except the forwarded ones."""
        parameters: Any = args[0] if args else kwargs.get("request_parameters")
        body: Any = getattr(parameters, "json", None)
        dialects = _DIALECTS.get(getattr(parameters, "task", ""))
        if dialects is None or not json_codec.is_mapping(body) or not _INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        server = provided_by("hugging_face", str(parameters.url))
        header = session_header((parameters.headers, None))
        dialect = dialects["inputs" in body]
        if dialect is not OPENAI_CHAT:
            asked = {**_model(parameters.model), **body, **keys_of_call()}
            return CALL_TRACER.start_call(dialect, asked, server, header), args, kwargs, None
        traced_call = CALL_TRACER.start_call(OPENAI_CHAT, body, server, header)
        forwarded = traced_call.forwarded() if traced_call is not None and traced_call.keys.enabled else None
        if forwarded or has_keys(body):
            left_out = {*NAMES, *(forwarded or {})}
            sent = {name: value for name, value in (forwarded or {}).items() if value is not None}
            changed = {**{name: value for name, value in body.items() if name not in left_out}, **sent}
            parameters = replace(parameters, json=changed)
            if args:
                args = (parameters, *args[1:])
            else:
                kwargs = {**kwargs, "request_parameters": parameters}
        return traced_call, args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> object | None:  # noqa: ANN401, ARG002 - the SDK's result
        """Record the bytes of a response; return an iterator in place of that of a stream."""
        if isinstance(result, bytes):
            traced_call.end_with_bytes(result)
            return None
        # Between two lines of data may be an empty one, or none.
        recorder = StreamRecorder(traced_call, ArrivedPieces(traced_call, separator=b"\n\n"))
        if hasattr(result, "__aiter__"):
            return AsyncRecordingIterator(aiter(result), recorder)
        return record_iterator(iter(result), recorder)


def _model(named: object) -> dict[str, str]:
    """Return the model of a request whose body has none; the URL of a server is no model."""
    return {"model": named} if isinstance(named, str) and "://" not in named else {}


def _move_keys(method: Method) -> Method:
    """Move trace keys of ``chat_completion`` into its ``extra_body``, where ``_inner_post`` finds them."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        if has_keys(kwargs) and args and _INSTRUMENTED.covers(args[0]):
            # The SDK follows the values of ``extra_body`` recursively, so they must end.
            keys = {name: sendable(kwargs[name]) for name in NAMES if name in kwargs}
            kwargs = keys_into_extra_body({**kwargs, **keys})
        return method(*args, **kwargs)

    return hide_frame(wrapper)


_HOOKS: Final = wrap_call(_Post())
_BOUND: Final = KeyHooks(_INSTRUMENTED)
_WITHOUT_EXTRA: Final = ("text_generation", "feature_extraction")
"""Methods whose requests have no place for trace keys."""
_SYNC: Final = "huggingface_hub.inference._client"
_ASYNC: Final = "huggingface_hub.inference._generated._async_client"

PATCHES: Final = ClientPatches(
    dialects=tuple(dict.fromkeys(dialect.name for both in _DIALECTS.values() for dialect in both)),
    instrumented=_INSTRUMENTED,
    patches=(
        Patch(_SYNC, "InferenceClient._inner_post", _HOOKS.sync),
        Patch(_ASYNC, "AsyncInferenceClient._inner_post", _HOOKS.asynchronous),
        Patch(_SYNC, "InferenceClient.chat_completion", _move_keys),
        Patch(_ASYNC, "AsyncInferenceClient.chat_completion", _move_keys),
        *(Patch(_SYNC, f"InferenceClient.{name}", _BOUND.sync) for name in _WITHOUT_EXTRA),
        *(Patch(_ASYNC, f"AsyncInferenceClient.{name}", _BOUND.asynchronous) for name in _WITHOUT_EXTRA),
    ),
    instance_patches=(
        InstancePatch("_inner_post", _HOOKS.sync, _HOOKS.asynchronous),
        InstancePatch("chat_completion", _move_keys),
        *(InstancePatch(name, _BOUND.sync, _BOUND.asynchronous) for name in _WITHOUT_EXTRA),
    ),
)
