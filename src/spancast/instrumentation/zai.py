"""Patches of zai-sdk and of zhipuai, its predecessor: chat completions and embeddings.

Their HTTP client is an early one of Stainless; their stream object is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.instrumentation.http_body import record_body
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Patch
from spancast.instrumentation.stainless import Request, capture_response, key_hook
from spancast.instrumentation.stream_recorder import record_iterator
from spancast.instrumentation.wrap_call import wrap_call
from spancast.tracing.traced_call import TracedCall


class _Request(Request):
    """``request`` of the HTTP client."""

    def record(self, traced_call: TracedCall, result: Any, note: Mapping[str, Any] | None) -> None:  # noqa: ANN401, ARG002 - the SDK's result
        """Record a stream or a response from its bytes, in place."""
        response, traced_call.http_response = traced_call.http_response, None
        if response is None:
            traced_call.end_with(result)
            return
        traced_call.set_request_bytes(response.request.content)
        chunks = getattr(result, "_stream_chunks", None)
        if chunks is not None:
            result._stream_chunks = record_iterator(chunks, record_body(traced_call, response))  # noqa: SLF001
        elif response.is_closed:
            traced_call.end_with_bytes(response.content)
        else:
            traced_call.end_with(result)


_INSTRUMENTED: Final = InstrumentedClients()
_ENDPOINTS: Final = {"/chat/completions": OPENAI_CHAT, "/embeddings": OPENAI_EMBEDDINGS}
_REQUEST: Final = wrap_call(_Request("zai", _ENDPOINTS, {}, None, "z_ai", _INSTRUMENTED)).sync
_KEYS: Final = key_hook(_INSTRUMENTED)


def _patches(package: str, embeddings: str) -> tuple[Patch, ...]:
    client = f"{package}.core._http_client"
    return (
        Patch(client, "HttpClient.request", _REQUEST),
        Patch(client, "HttpClient._process_response", capture_response),
        Patch(f"{package}.api_resource.chat.completions", "Completions.create", _KEYS),
        Patch(f"{package}.api_resource.{embeddings}", "Embeddings.create", _KEYS),
    )


PATCHES: Final = ClientPatches(
    dialects=(OPENAI_CHAT.name, OPENAI_EMBEDDINGS.name),
    instrumented=_INSTRUMENTED,
    patches=(*_patches("zai", "embeddings.embeddings"), *_patches("zhipuai", "embeddings")),
    instance_patches=(
        InstancePatch("request", _REQUEST),
        InstancePatch("_process_response", capture_response),
        InstancePatch("chat.completions.create", _KEYS),
        InstancePatch("embeddings.create", _KEYS),
    ),
)
