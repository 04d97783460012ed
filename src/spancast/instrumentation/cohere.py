"""Patches of cohere: chat and embeddings of both versions of its API.

The methods of the raw clients (``with_raw_response``), which every public method calls, are recorded. A stream of them
is a context manager, whose entering sends the request. Trace keys travel to them in ``request_options``.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from spancast.dialects.cohere.chat import COHERE_CHAT
from spancast.dialects.cohere.chat_v1 import COHERE_CHAT_V1
from spancast.dialects.cohere.embed import COHERE_EMBED
from spancast.dialects.protocol import Dialect
from spancast.instrumentation.call_keys import NAMES, drop_keys, has_keys, without_keys
from spancast.instrumentation.http_body import record_body
from spancast.instrumentation.patching import (
    ClientPatches,
    Hook,
    InstancePatch,
    InstrumentedClients,
    Method,
    Patch,
    hide_frame,
)
from spancast.instrumentation.stainless import session_header
from spancast.instrumentation.stream_recorder import AsyncRecordingIterator, record_iterator
from spancast.instrumentation.wrap_call import Begun, CallDescription, CallHooks, wrap_call
from spancast.model import json_codec
from spancast.model.providers import server_of
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import TracedCall

_OPTIONS: Final = "request_options"
_ADDED: Final = "additional_body_parameters"
_INSTRUMENTED: Final = InstrumentedClients()


class _RawMethod(CallDescription):
    """A method of a raw client; its keyword arguments are the request body."""

    def __init__(self, name: str) -> None:
        self._name = name

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's raw client
        """Start a call; remove the trace keys from its options, except the forwarded ones."""
        if not _INSTRUMENTED.covers_part("_client_wrapper", owner._client_wrapper):  # noqa: SLF001
            return None, args, kwargs, None
        given = kwargs.get(_OPTIONS)
        options: dict[str, Any] = dict(given) if json_codec.is_mapping(given) else {}
        added: dict[str, Any] = dict(options.get(_ADDED) or {})
        body = {name: value for name, value in kwargs.items() if name != _OPTIONS and value is not ...}
        body |= added
        server = server_of(owner._client_wrapper.get_base_url())  # noqa: SLF001
        dialect: Dialect = COHERE_EMBED
        if self._name != "embed":
            dialect = COHERE_CHAT if "V2" in type(owner).__name__ else COHERE_CHAT_V1
        header = session_header((options.get("additional_headers"), None))
        traced_call = CALL_TRACER.start_call(dialect, body, server, header, parse_now=False)
        forwarded = traced_call.forwarded() if traced_call is not None and traced_call.keys.enabled else None
        if forwarded or has_keys(body):
            kwargs = without_keys(kwargs)
            left = without_keys(added)
            sent = {name: value for name, value in (forwarded or {}).items() if value is not None}
            kwargs[_OPTIONS] = {**options, _ADDED: {**left, **sent}}
        return traced_call, args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> None:  # noqa: ANN401, ARG002 - the SDK's raw response
        """Record a response or a stream from its bytes, in place."""
        response, data = result._response, result._data  # noqa: SLF001
        traced_call.set_request_bytes(response.request.content)
        if hasattr(data, "__anext__"):
            result._data = AsyncRecordingIterator(data, record_body(traced_call, response))  # noqa: SLF001
        elif hasattr(data, "__next__"):
            result._data = record_iterator(data, record_body(traced_call, response))  # noqa: SLF001
        else:
            traced_call.end_with_bytes(response.content)


def _move_keys(method: Method) -> Method:
    """Move trace keys of a public method into the body parameters of its options."""

    def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        if has_keys(kwargs) and _INSTRUMENTED.covers(owner):
            keys = {name: kwargs.pop(name) for name in NAMES & kwargs.keys()}
            options: dict[str, Any] = dict(kwargs.get(_OPTIONS) or {})
            kwargs[_OPTIONS] = {**options, _ADDED: {**(options.get(_ADDED) or {}), **keys}}
        return method(owner, *args, **kwargs)

    return hide_frame(wrapper)


_NOT_RECORDED: Final = ("generate", "generate_stream", "rerank", "classify", "summarize")
_drop_keys: Final = functools.partial(drop_keys, instrumented=_INSTRUMENTED)
_NAMES: Final = ("chat", "chat_stream", "embed")
_HOOKS: Final[dict[str, CallHooks]] = {name: wrap_call(_RawMethod(name)) for name in _NAMES}


def _hooks(name: str) -> tuple[Hook, Hook]:
    """Return the hooks of a method of the synchronous and of the asynchronous raw client."""
    hooks = _HOOKS[name]
    return (hooks.manager, hooks.async_manager) if name == "chat_stream" else (hooks.sync, hooks.asynchronous)


def _patches() -> list[Patch]:
    found: list[Patch] = []
    for module, raw_module, kind in (
        ("cohere.v2.client", "cohere.v2.raw_client", "V2Client"),
        ("cohere.base_client", "cohere.raw_base_client", "BaseCohere"),
    ):
        for name in _NAMES:
            sync, asynchronous = _hooks(name)
            found += [
                Patch(module, f"{kind}.{name}", _move_keys),
                Patch(module, f"Async{kind}.{name}", _move_keys),
                Patch(raw_module, f"Raw{kind}.{name}", sync),
                Patch(raw_module, f"AsyncRaw{kind}.{name}", asynchronous),
            ]
    for kind in ("BaseCohere", "AsyncBaseCohere"):
        found += [Patch("cohere.base_client", f"{kind}.{name}", _drop_keys) for name in _NOT_RECORDED]
    found += [Patch("cohere.v2.client", f"{kind}.rerank", _drop_keys) for kind in ("V2Client", "AsyncV2Client")]
    # Of version 1, in batches.
    return [*found, *(Patch("cohere.client", f"{kind}.embed", _move_keys) for kind in ("Client", "AsyncClient"))]


PATCHES: Final = ClientPatches(
    dialects=tuple(dialect.name for dialect in (COHERE_CHAT, COHERE_CHAT_V1, COHERE_EMBED)),
    instrumented=_INSTRUMENTED,
    patches=tuple(_patches()),
    instance_patches=(
        *(InstancePatch(f"_raw_client.{name}", *_hooks(name)) for name in _NAMES),
        *(InstancePatch(name, _move_keys) for name in _NAMES),
        *(InstancePatch(name, _drop_keys) for name in _NOT_RECORDED),
    ),
)
