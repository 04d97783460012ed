"""Patches of litellm: completions, embeddings, Responses and Messages of any provider, its ``Router`` and its proxy.

A call is one span, whatever litellm does for it: its own retries and fallbacks, calls of other functions of litellm,
the call of an SDK, which annotates the span. A call of a ``Router`` is a group span with one span per attempt.
The functions are wrapped in place (``function_code.py``), because programs and litellm itself bind their names early.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Final

from spancast.diagnostics import never_raise
from spancast.dialects import accessors
from spancast.dialects.anthropic_messages.reader import ANTHROPIC_MESSAGES
from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.dialects.openai_responses.reader import OPENAI_RESPONSES
from spancast.dialects.protocol import Dialect
from spancast.instrumentation import sse
from spancast.instrumentation.call_keys import NAMES, has_keys, without_keys
from spancast.instrumentation.patching import ClientPatches, Hook, InstrumentedClients, Method, Patch, hide_frame
from spancast.instrumentation.results import StepRecorder, recorded
from spancast.instrumentation.stainless import session_header
from spancast.instrumentation.stream_recorder import Arrived
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model import json_codec, semconv, trace_keys
from spancast.model.call import Attributes, Response
from spancast.model.providers import UNKNOWN_SERVER, Server, server_of
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.trace_block import ACTIVE_KEYS, TraceBlock
from spancast.tracing.traced_call import CURRENT_CALL, Incomplete, TracedCall, around, restore

_INSTRUMENTED: Final = InstrumentedClients()
_MAX_CHAIN: Final = 8
_RECORDER: Final = "_spancast_recorder"
"""The attribute of a stream with its recorder."""

_PROVIDERS: Final = {
    "ai21_chat": "ai21",
    "anthropic_text": "anthropic",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_text": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_mantle": "aws.bedrock",
    "bigmodel": "z_ai",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "dashscope": "alibaba_cloud",
    "fireworks_ai": "fireworks",
    "gemini": "gcp.gemini",
    "huggingface": "hugging_face",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "ollama_chat": "ollama",
    "text-completion-codestral": "mistral_ai",
    "together_ai": "together",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
    "zai": "z_ai",
}
"""litellm's names of providers that differ from those of the convention and of ``model/providers.py``."""
_ANY_SERVER: Final = frozenset({"openai", "text-completion-openai", "custom_openai", "openai_like", "custom"})
"""Names that litellm has for servers of anybody, too."""

_FIELDS: Final = frozenset({
    "model", "messages", "prompt", "input", "instructions", "system", "suffix", "tools", "functions", "tool_choice",
    "function_call", "parallel_tool_calls", "temperature", "top_p", "top_k", "min_p", "top_a", "n", "stream",
    "stream_options", "stop", "stop_sequences", "max_tokens", "max_completion_tokens", "max_output_tokens",
    "max_tool_calls", "modalities", "prediction", "audio", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "logit_bias", "response_format", "text", "text_format", "seed", "logprobs", "top_logprobs",
    "reasoning", "reasoning_effort", "thinking", "verbosity", "service_tier", "store", "safety_identifier",
    "prompt_cache_key", "prompt_cache_retention", "web_search_options", "previous_response_id", "background",
    "conversation", "include", "truncation", "dimensions", "encoding_format", "input_type", "best_of", "echo", "user",
    "safety_settings", "cached_content", "guardrailConfig", "context_management", "container", "mcp_servers",
    "speed", "provider", "models", "transforms", "route", "plugins",
})  # fmt: skip
"""The arguments that are recorded. A list of those that are not could miss a credential of the next provider."""

_OF_PROXY: Final = frozenset({"headers", "used_client_oauth_token"})
"""What the proxy adds to the metadata of its client."""
_METADATA_NAMES: Final = {"trace_user_id": "user"}
"""Names in ``metadata`` that litellm's callbacks document, as trace keys; the others have the same names."""


class _Call(CallDescription):
    """A function of litellm; its arguments are the request."""

    def __init__(self, dialect: Dialect, positional: tuple[str, ...]) -> None:
        self._dialect = dialect
        self._positional = positional
        # In the other formats ``metadata`` is a field of the request.
        self._has_own_metadata = dialect in (OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS)

    def begin(self, owner: None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ARG002 - a function has none
        """Start a call; remove the trace keys from its arguments, except the forwarded ones."""
        if not _INSTRUMENTED.all or _own_call() is not None:
            return None, args, kwargs, None
        given = {**dict(zip(self._positional, args, strict=False)), **kwargs}
        extra = accessors.fields(given.get("extra_body"))
        body = {name: value for name, value in given.items() if name in _FIELDS and value is not None}
        body |= without_keys(extra)
        provider, model = _named_provider(given)
        # The rest of the server is known when litellm sends the request.
        server = _server(provider, given.get("api_base") or given.get("base_url")) or UNKNOWN_SERVER
        body |= {"model": model, **_keys_of(given, extra, is_own_metadata=self._has_own_metadata)}
        headers = given.get("extra_headers"), given.get("headers")
        traced_call = CALL_TRACER.start_call(self._dialect, body, server, session_header(headers), is_outermost=True)
        if traced_call is not None:
            traced_call.owner, traced_call.surroundings = _INSTRUMENTED, around()
        forwarded = traced_call.forwarded() if traced_call is not None and traced_call.keys.enabled else None
        if forwarded or has_keys(kwargs) or has_keys(extra):
            kwargs = without_keys(kwargs)
            sent = {name: value for name, value in (forwarded or {}).items() if name in NAMES and value is not None}
            if extra or sent:
                kwargs["extra_body"] = without_keys(extra) | sent
        return traced_call, args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> object | None:  # noqa: ANN401, ARG002 - litellm's result
        """Record a response, or a stream in place; return a replacement for a plain generator."""
        try:
            return self._recorded(traced_call, result)
        except BaseException:
            # litellm's threads keep the context of the call, so its finalizer may come late.
            traced_call.end_stream(incomplete="abandoned")
            raise

    def _recorded(self, traced_call: TracedCall, result: Any) -> object | None:  # noqa: ANN401 - litellm's result
        _add_facts(traced_call, result)
        kind = f"{type(result).__module__}:{type(result).__qualname__}"
        if kind in _STREAMS:
            setattr(
                result, _RECORDER, _StreamRecorder(traced_call, _arrived(traced_call), getattr(result, "chunks", None))
            )
            return None
        recorder = StepRecorder(traced_call, _arrived(traced_call)) if _is_iterator(result) else None
        replacement = recorded(traced_call, result, recorder)
        return None if replacement is result else replacement

    def fail(self, traced_call: TracedCall, error: BaseException, note: None) -> None:  # noqa: ARG002 - begin's own
        """Record the exception, and the provider that it names."""
        _note_error(traced_call, error)
        traced_call.fail(error)


def _own_call() -> TracedCall | None:
    """Return the call of litellm that the current code runs in; None if there is none."""
    call = CURRENT_CALL.get()
    return call if call is not None and call.owner is _INSTRUMENTED else None


def _keys_of(given: Mapping[str, Any], extra: Mapping[str, Any], *, is_own_metadata: bool) -> dict[str, Any]:
    """Return the trace keys among arguments and ``extra_body``, as fields of a request."""
    found = {name: extra[name] for name in NAMES if name in extra}
    found |= {name: given[name] for name in NAMES if given.get(name) is not None}
    metadata = given.get("metadata")
    if not json_codec.is_mapping(metadata):
        return found
    if not is_own_metadata:
        return {"metadata": metadata, **found}
    if "requester_metadata" in metadata:
        # Of the proxy, which adds the user, the key and more of its request; this is what its client has sent.
        sent = accessors.fields(metadata["requester_metadata"])
        metadata = {name: value for name, value in sent.items() if name not in _OF_PROXY}
    elif "model_group" in metadata:
        # Of a ``Router``, whose call has taken the keys.
        return found
    if metadata:
        keys = {_METADATA_NAMES.get(name, name): value for name, value in metadata.items()}
        trace = found.get("trace")
        found["trace"] = {**keys, **(trace if json_codec.is_mapping(trace) else {})}
    return found


def _named_provider(given: Mapping[str, Any]) -> tuple[object, object]:
    """Return the provider that the arguments name, None if litellm must find it, and the model without its name."""
    model, provider = given.get("model"), given.get("custom_llm_provider")
    if isinstance(model, str) and "/" in model:
        name, _, rest = model.partition("/")
        if name == provider or (
            provider is None
            and (name in _PROVIDERS or name in getattr(sys.modules.get("litellm"), "provider_list", ()))
        ):
            return name, rest
    return provider, model


def _server(provider: object, base: object) -> Server | None:
    server = server_of(base) if isinstance(base, str) else UNKNOWN_SERVER
    if server.provider is None and isinstance(provider, str) and (provider not in _ANY_SERVER or not server.attributes):
        name = "openai" if provider == "text-completion-openai" else provider
        server = replace(server, provider=_PROVIDERS.get(name, name))
    return None if server is UNKNOWN_SERVER else server


def _locate(traced_call: TracedCall, provider: object, base: object) -> None:
    """Set the server of a call, known since litellm has found it."""
    if not isinstance(base, str) and traced_call.server.attributes:
        return
    server = _server(str(getattr(provider, "value", provider)) if provider else None, base)
    if server is not None:
        traced_call.set_server(server if server.provider else replace(server, provider=traced_call.server.provider))


def _add_facts(traced_call: TracedCall, result: Any) -> None:  # noqa: ANN401 - litellm's result
    """Add what litellm knows of a response: its provider and server, its cost, whether it is from a cache."""
    hidden = getattr(result, "_hidden_params", None)
    if not json_codec.is_mapping(hidden):
        return
    _locate(traced_call, hidden.get("custom_llm_provider"), hidden.get("api_base"))
    facts: Attributes = {}
    cost, is_hit = hidden.get("response_cost"), hidden.get("cache_hit") is True
    has_own_cost = accessors.fields(getattr(result, "usage", None)).get("cost") is not None
    # It computes 0 for models without a price, and for a stream before its end.
    if isinstance(cost, (int, float)) and (cost > 0 or is_hit) and not has_own_cost:
        facts |= {semconv.USAGE_COST: float(cost), semconv.COST_ESTIMATED: True, semconv.COST_SOURCE: "litellm"}
    if is_hit:
        facts[semconv.RESPONSE_CACHE_HIT] = True
    if facts:
        traced_call.annotate(facts)


@never_raise
def _note_error(traced_call: TracedCall, error: BaseException) -> None:
    """Take the provider from an exception of litellm, and its code from the exception of the provider inside."""
    provider = getattr(error, "llm_provider", None)
    if isinstance(provider, str):
        _locate(traced_call, provider, None)
    found, inner = traced_call.dialect.error_attributes(error), error
    for _ in range(_MAX_CHAIN):
        inner = inner.__cause__ or inner.__context__
        if inner is None or semconv.ERROR_TYPE in found:
            break
        found = {**traced_call.dialect.error_attributes(inner), **found}
    traced_call.error_details = found


class _StreamRecorder(StepRecorder):
    """The recorder of a stream object of litellm, on which it is an attribute."""

    __slots__ = ("_chunks", "_last")

    def __init__(self, traced_call: TracedCall, arrived: Arrived, chunks: object) -> None:
        super().__init__(traced_call, arrived)
        # litellm keeps the chunks as they were received; those for the caller have no usage unless it is asked for.
        self._chunks = accessors.items(chunks)
        self._last: object = None

    def _record(self, chunk: object) -> None:
        self._last = chunk
        super()._record(chunk)

    def end(self, incomplete: Incomplete | None = None, error: BaseException | None = None) -> None:
        """End the call, with the usage that the provider has sent."""
        if not self.has_ended:
            self._add_usage()
            if error is not None:
                _note_error(self.traced_call, error)
        super().end(incomplete, error)
        self._chunks, self._last = (), None

    @never_raise
    def _add_usage(self) -> None:
        received = next((usage for chunk in reversed(self._chunks) if (usage := _usage_of(chunk)) is not None), None)
        if received is not None:
            # The sum over the chunks, once litellm has made it.
            hidden = getattr(self._last, "_hidden_params", None)
            summed = hidden.get("usage") if json_codec.is_mapping(hidden) else None
            self.feed({"choices": [], "usage": json_codec.decode(json_codec.encode(summed or received))})


def _usage_of(chunk: object) -> object:
    return accessors.fields(chunk).get("usage")


class _Events(Arrived):
    """The events of a Messages stream, as text of server-sent events or decoded."""

    __slots__ = ("_events",)

    def __init__(self, traced_call: TracedCall) -> None:
        super().__init__(traced_call)
        self._events: Final[list[object]] = []

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that keeps an event."""
        return self._events.append

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        feed = super().feed
        text: list[bytes] = []
        for event in self._events:
            if isinstance(event, (bytes, str)):
                text.append(event.encode() if isinstance(event, str) else event)
            else:
                feed(event)
        payloads, self.is_complete = sse.payloads(b"".join(text), self._dialect)
        for payload in payloads:
            feed(payload)
        return self.reader.result()


def _arrived(traced_call: TracedCall) -> Arrived:
    return _Events(traced_call) if traced_call.dialect is ANTHROPIC_MESSAGES else Arrived(traced_call)


def _is_iterator(result: object) -> bool:
    return hasattr(type(result), "__next__") or hasattr(type(result), "__anext__")


def _recorder_of(stream: object) -> _StreamRecorder | None:
    return getattr(stream, "__dict__", {}).get(_RECORDER)


def _next(method: Method) -> Method:
    def wrapper(stream: Any) -> Any:  # noqa: ANN401 - litellm's chunk
        recorder = _recorder_of(stream)
        if recorder is None:
            return method(stream)
        recorder.in_sdk_iterator = True
        try:
            return recorder.advance(method, stream)
        finally:
            recorder.in_sdk_iterator = False

    return hide_frame(wrapper)


def _anext(method: Method) -> Method:
    async def wrapper(stream: Any) -> Any:  # noqa: ANN401 - litellm's chunk
        recorder = _recorder_of(stream)
        if recorder is None:
            return await method(stream)
        recorder.in_sdk_iterator = True
        try:
            return await recorder.advance_async(method, stream)
        finally:
            recorder.in_sdk_iterator = False

    return hide_frame(wrapper)


def _note_close(stream: object) -> None:
    recorder = _recorder_of(stream)
    # litellm closes a stream when it has read it.
    if recorder is not None and not recorder.sdk_is_reading:
        recorder.closed()


def _close(method: Method) -> Method:
    def wrapper(stream: Any, *args: Any) -> Any:  # noqa: ANN401 - litellm's own value
        try:
            return method(stream, *args)
        finally:
            _note_close(stream)

    return hide_frame(wrapper)


def _aclose(method: Method) -> Method:
    async def wrapper(stream: Any, *args: Any) -> Any:  # noqa: ANN401 - litellm's own value
        try:
            return await method(stream, *args)
        finally:
            _note_close(stream)

    return hide_frame(wrapper)


@never_raise
def _note_request(logging: Any, arguments: Mapping[str, Any]) -> None:  # noqa: ANN401 - litellm's ``Logging``
    """Set the server of the call whose request litellm is about to send."""
    call = _own_call()
    if call is not None:
        details = accessors.fields(getattr(logging, "model_call_details", None))
        provider = details.get("custom_llm_provider") or getattr(logging, "custom_llm_provider", None)
        base = accessors.fields(arguments.get("additional_args")).get("api_base")
        _locate(call, provider, str(base) if base else None)


def _pre_call(method: Method) -> Method:
    def wrapper(logging: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - litellm's own value
        _note_request(logging, {"additional_args": args[3] if len(args) > 3 else None, **kwargs})  # noqa: PLR2004 - its position
        return method(logging, *args, **kwargs)

    return hide_frame(wrapper)


@contextmanager
def _outside() -> Generator[None]:
    """Run callbacks in the context around the call, as without spancast; they may make calls of their own."""
    call, inside = _own_call(), around()
    if call is None or call.surroundings is None:
        yield
        return
    try:
        restore(call.surroundings)
        yield
    finally:
        restore(inside)


def _callbacks(method: Method) -> Method:
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - litellm's own value
        with _outside():
            return method(*args, **kwargs)

    return hide_frame(wrapper)


def _async_callbacks(method: Method) -> Method:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - litellm's own value
        with _outside():
            return await method(*args, **kwargs)

    return hide_frame(wrapper)


class _Attempts(TraceBlock):
    """The block around the attempts of one call of a ``Router``; its group span is their parent."""


@never_raise
def _attempts(request: Mapping[str, Any]) -> tuple[_Attempts, dict[str, Any]] | None:
    """Return the block for a request of a ``Router``, and the request without trace keys; None inside another."""
    if not _INSTRUMENTED.all or any(isinstance(one.opener, _Attempts) for one in ACTIVE_KEYS.get().entries):
        return None
    extra = accessors.fields(request.get("extra_body"))
    found = _keys_of({**request, "metadata": _without_marks(request.get("metadata"))}, extra, is_own_metadata=True)
    keys = trace_keys.read(found.get("trace"), session_id=found.get("session_id"))
    if keys.enabled and not keys.span_name:
        keys = replace(keys, span_name=f"router {request.get('model') or ''}".strip())
    sent = without_keys(request)
    if any(name in extra for name in NAMES):
        sent["extra_body"] = without_keys(extra)
    return _Attempts(CALL_TRACER, keys), sent


def _without_marks(metadata: object) -> Mapping[str, Any]:
    """Return ``metadata`` without what a ``Router`` has added before its first attempt."""
    return {name: value for name, value in accessors.fields(metadata).items() if name not in _MARKS}


_MARKS: Final = frozenset({"model_group", "model_group_alias", "model_group_size"})
_ROUTED: Final = ("completion", "embedding", "responses", "anthropic_messages")
"""Parts of the names of endpoints of a ``Router`` that call a model."""


def _routed(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[AbstractContextManager[object], tuple[Any, ...], dict[str, Any]]:
    """Return the block for a call of a ``Router``, and its arguments without trace keys.

    They are a plan and a request; before litellm 1.100 the request is the keyword arguments.
    """
    has_plan = bool(args) and hasattr(args[0], "endpoint")
    if has_plan:
        names, request = [args[0].endpoint], args[1] if len(args) > 1 else kwargs.get("request")
    else:
        functions = kwargs.get("original_generic_function"), kwargs.get("original_function")
        names, request = [getattr(one, "__name__", "") for one in functions], kwargs
    if not (json_codec.is_mapping(request) and any(part in str(name) for part in _ROUTED for name in names)):
        return nullcontext(), args, kwargs
    found = _attempts(request)
    if found is None:
        return nullcontext(), args, kwargs
    block, sent = found
    if not has_plan:
        return block, args, sent
    if len(args) > 1:
        return block, (args[0], sent, *args[2:]), kwargs
    return block, args, {**kwargs, "request": sent}


def _route(method: Method) -> Method:
    def wrapper(router: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - litellm's own value
        block, args, kwargs = _routed(args, kwargs)
        with block:
            return method(router, *args, **kwargs)

    return hide_frame(wrapper)


def _route_async(method: Method) -> Method:
    async def wrapper(router: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - litellm's own value
        block, args, kwargs = _routed(args, kwargs)
        with block:
            return await method(router, *args, **kwargs)

    return hide_frame(wrapper)


def _functions(dialect: Dialect, positional: tuple[str, ...], *names: str) -> Iterator[Patch]:
    """Yield the patches of functions, ``module:function``."""
    hooks = wrap_call(_Call(dialect, positional))
    for name in names:
        module, _, function = name.partition(":")
        is_async = function.startswith("a") and function != "anthropic_messages_handler"
        yield Patch(f"litellm.{module}", function, hooks.asynchronous if is_async else hooks.sync)


_MESSAGES: Final = "llms.anthropic.messages.native"
_OLD_MESSAGES: Final = "llms.anthropic.experimental_pass_through.messages"
_LOGGING: Final = "litellm.litellm_core_utils.litellm_logging"
_CHUNKS: Final = "litellm.litellm_core_utils.streaming_handler:CustomStreamWrapper"
_TEXT: Final = "litellm.text_completions.streaming_iterator:TextCompletionStreamWrapper"
_RESPONSES: Final = "litellm.responses.streaming_iterator"
_BRIDGED: Final = (
    "litellm.responses.litellm_completion_transformation.streaming_iterator:LiteLLMCompletionStreamingIterator"
)
_STREAMS: Final[Mapping[str, tuple[str, ...]]] = {
    _CHUNKS: ("__next__", "__anext__", "close", "aclose"),
    _TEXT: ("__next__", "__anext__"),
    # Before litellm 1.100.
    "litellm.utils:TextCompletionStreamWrapper": ("__next__", "__anext__"),
    f"{_RESPONSES}:ResponsesAPIStreamingIterator": ("__anext__", "aclose"),
    f"{_RESPONSES}:SyncResponsesAPIStreamingIterator": ("__next__", "close"),
    f"{_RESPONSES}:MockResponsesAPIStreamingIterator": ("__next__", "__anext__"),
    f"{_RESPONSES}:CachedResponsesAPIStreamingIterator": ("__next__", "__anext__"),
    f"litellm.{_MESSAGES}.streaming_iterator:AnthropicMessagesStreamingResponse": ("__anext__", "aclose"),
    f"{_BRIDGED}:LiteLLMCompletionStreamingIterator": ("__next__", "__anext__", "aclose"),
}
"""The classes of streams that callers get, and their methods."""
_STREAM_HOOKS: Final[Mapping[str, Hook]] = {"__next__": _next, "__anext__": _anext, "close": _close, "aclose": _aclose}

PATCHES: Final = ClientPatches(
    dialects=tuple(
        one.name
        for one in (OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS, OPENAI_RESPONSES, ANTHROPIC_MESSAGES)
    ),
    instrumented=_INSTRUMENTED,
    patches=(
        *_functions(
            OPENAI_CHAT, ("model", "messages"), "main:completion", "main:acompletion",
            "chat_completions.dispatch:completion", "chat_completions.dispatch:acompletion",
        ),
        *_functions(OPENAI_COMPLETIONS, ("prompt", "model"), "main:text_completion", "main:atext_completion"),
        *_functions(
            OPENAI_EMBEDDINGS, ("model", "input"), "main:embedding", "main:aembedding",
            "embeddings.dispatch:embedding", "embeddings.dispatch:aembedding",
        ),
        *_functions(
            OPENAI_RESPONSES, ("input", "model"), "responses.main:responses", "responses.main:aresponses",
            "responses.dispatch:responses", "responses.dispatch:aresponses",
        ),
        *_functions(
            ANTHROPIC_MESSAGES, ("max_tokens", "messages", "model"),
            *(
                f"{module}:{name}"
                for module in (f"{_MESSAGES}.handler", f"{_OLD_MESSAGES}.handler", "messages.dispatch")
                for name in ("anthropic_messages", "anthropic_messages_handler")
            ),
        ),
        *(
            Patch(stream.partition(":")[0], f"{stream.partition(':')[2]}.{method}", _STREAM_HOOKS[method])
            for stream, methods in _STREAMS.items()
            for method in methods
        ),
        Patch(_LOGGING, "Logging.pre_call", _pre_call),
        *(Patch(_LOGGING, f"Logging.{one}_handler", _callbacks) for one in ("success", "failure")),
        *(Patch(_LOGGING, f"Logging.async_{one}_handler", _async_callbacks) for one in ("success", "failure")),
        Patch("litellm.router_rust.core", "RustCore._drive", _route_async),
        Patch("litellm.router_rust.core", "RustCore._call_sync", _route),
        # Before litellm 1.100.
        Patch("litellm.router", "Router.async_function_with_fallbacks", _route_async),
        Patch("litellm.router", "Router.function_with_fallbacks", _route),
    ),
    instance_patches=(),
)  # fmt: skip
