"""Spans written by hand with the OpenTelemetry API: the same content as spancast's, with no unnecessary work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from benchmarks.cases import SESSION, USER, Case
from benchmarks.provider import method

_TRACE_KEYS = {"trace_id", "trace_name", "span_name", "generation_name", "parent_span_id"}
_REQUEST_ATTRIBUTES = {
    "temperature": "gen_ai.request.temperature",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "stream": "gen_ai.request.stream",
}


class Bare:
    """Calls of ``case``, each inside a span of ``tracer``; streams and errors included."""

    def __init__(self, tracer: Tracer, case: Case) -> None:
        self._tracer = tracer
        self._case = case
        self._read_response = {"chat": _read_chat, "responses": _read_responses, "messages": _read_message}[case.api]
        self._server = "api.anthropic.com" if case.api == "messages" else "api.openai.com"
        self._provider = "anthropic" if case.api == "messages" else "openai"
        self._keys, self._name, self._parent = {}, f"chat {case.request['model']}", None
        if case.keys is not None:
            custom = {f"trace.metadata.{name}": value for name, value in case.keys.items() if name not in _TRACE_KEYS}
            self._keys = {"session.id": SESSION, "gen_ai.conversation.id": SESSION, "user.id": USER, **custom}
            self._name = case.keys.get("generation_name", self._name)
            # Like spancast's group span: one parent for all calls of the process.
            self._parent = trace.set_span_in_context(tracer.start_span(case.keys.get("span_name", "group")))

    def call(self, client: Any) -> None:
        request = self._case.request
        attributes = self._request_attributes(request)
        with self._span() as span:
            try:
                response = method(client, self._case)(**request)
            except Exception as error:
                _fail(span, attributes, error)
                raise
            self._read_response(response, attributes)
            span.set_attributes(attributes)

    def open(self, client: Any) -> Iterator[Any]:
        return self._stream(method(client, self._case), self._case.request)

    async def acall(self, client: Any) -> None:
        request = self._case.request
        attributes = self._request_attributes(request)
        with self._span() as span:
            try:
                response = await method(client, self._case)(**request)
            except Exception as error:
                _fail(span, attributes, error)
                raise
            self._read_response(response, attributes)
            span.set_attributes(attributes)

    def _span(self) -> Any:
        return self._tracer.start_as_current_span(
            self._name, self._parent, SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        )

    def _stream(self, create: Callable[..., Any], request: dict[str, Any]) -> Iterator[Any]:
        attributes = self._request_attributes(request)
        span = self._tracer.start_span(self._name, self._parent, SpanKind.CLIENT)
        started = time.perf_counter()
        first = None
        texts: list[str] = []
        calls: dict[int, dict[str, str]] = {}
        reason = chunk = usage = None
        try:
            with trace.use_span(span):
                chunks = create(**request)
            for chunk in chunks:
                if first is None:
                    first = time.perf_counter() - started
                if chunk.choices:
                    choice = chunk.choices[0]
                    if choice.delta.content:
                        texts.append(choice.delta.content)
                    elif choice.delta.tool_calls:
                        _add_tool_calls(calls, choice.delta.tool_calls)
                    if choice.finish_reason:
                        reason = choice.finish_reason
                if chunk.usage:
                    usage = chunk.usage
                yield chunk
            if chunk is not None and usage is not None:
                _add_chat_response(attributes, chunk, usage)
            attributes["gen_ai.response.time_to_first_chunk"] = first or 0.0
            attributes["gen_ai.response.finish_reasons"] = [reason or "error"]
            message = {"role": "assistant", "content": "".join(texts), "tool_calls": list(calls.values())}
            attributes["gen_ai.output.messages"] = json.dumps([message])
            span.set_attributes(attributes)
        except Exception as error:
            _fail(span, attributes, error)
            raise
        finally:
            span.end()

    def _request_attributes(self, request: dict[str, Any]) -> dict[str, Any]:
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self._provider,
            "gen_ai.request.model": request["model"],
            "server.address": self._server,
            "server.port": 443,
            "gen_ai.input.messages": json.dumps(request.get("messages") or request["input"]),
        }
        for name, attribute in _REQUEST_ATTRIBUTES.items():
            if name in request:
                attributes[attribute] = request[name]
        instructions = request.get("system") or request.get("instructions")
        if instructions:
            attributes["gen_ai.system_instructions"] = json.dumps([instructions])
        if "tools" in request:
            attributes["gen_ai.tool.definitions"] = json.dumps(request["tools"])
        attributes.update(self._keys)
        return attributes


class Empty(Bare):
    """An empty span with the attributes the conventions require at its start: the minimum cost of an SDK span."""

    def call(self, client: Any) -> None:
        with self._span():
            method(client, self._case)(**self._case.request)

    async def acall(self, client: Any) -> None:
        with self._span():
            await method(client, self._case)(**self._case.request)

    def _span(self) -> Any:
        return self._tracer.start_as_current_span(
            self._name, self._parent, SpanKind.CLIENT, self._start_attributes,
            record_exception=False, set_status_on_exception=False,
        )  # fmt: skip

    def _stream(self, create: Callable[..., Any], request: dict[str, Any]) -> Iterator[Any]:
        span = self._tracer.start_span(self._name, self._parent, SpanKind.CLIENT, self._start_attributes)
        try:
            with trace.use_span(span):
                chunks = create(**request)
            yield from chunks
        finally:
            span.end()

    @property
    def _start_attributes(self) -> dict[str, Any]:
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self._provider,
            "gen_ai.request.model": self._case.request["model"],
            "server.address": self._server,
            "server.port": 443,
        }


def _fail(span: Span, attributes: dict[str, Any], error: Exception) -> None:
    attributes["error.type"] = type(error).__qualname__
    attributes["spancast.response.status_code"] = getattr(error, "status_code", 0)
    span.set_attributes(attributes)
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, str(error)))


def _add_chat_response(attributes: dict[str, Any], response: Any, usage: Any) -> None:
    attributes["gen_ai.response.id"] = response.id
    attributes["gen_ai.response.model"] = response.model
    attributes["openai.response.system_fingerprint"] = response.system_fingerprint
    attributes["spancast.response.created"] = response.created
    attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
    attributes["gen_ai.usage.output_tokens"] = usage.completion_tokens
    attributes["gen_ai.usage.cache_read.input_tokens"] = usage.prompt_tokens_details.cached_tokens
    attributes["gen_ai.usage.reasoning.output_tokens"] = usage.completion_tokens_details.reasoning_tokens
    attributes["spancast.usage.total_tokens"] = usage.total_tokens


def _read_chat(response: Any, attributes: dict[str, Any]) -> None:
    _add_chat_response(attributes, response, response.usage)
    attributes["gen_ai.response.finish_reasons"] = [choice.finish_reason for choice in response.choices]
    output = [{"role": choice.message.role, "content": choice.message.content} for choice in response.choices]
    attributes["gen_ai.output.messages"] = json.dumps(output)


def _read_responses(response: Any, attributes: dict[str, Any]) -> None:
    attributes["gen_ai.response.id"] = response.id
    attributes["gen_ai.response.model"] = response.model
    attributes["gen_ai.response.finish_reasons"] = [response.status]
    attributes["gen_ai.usage.input_tokens"] = response.usage.input_tokens
    attributes["gen_ai.usage.output_tokens"] = response.usage.output_tokens
    attributes["gen_ai.usage.cache_read.input_tokens"] = response.usage.input_tokens_details.cached_tokens
    attributes["gen_ai.usage.reasoning.output_tokens"] = response.usage.output_tokens_details.reasoning_tokens
    output = [{"role": item.role, "content": item.content[0].text} for item in response.output]
    attributes["gen_ai.output.messages"] = json.dumps(output)


def _read_message(response: Any, attributes: dict[str, Any]) -> None:
    attributes["gen_ai.response.id"] = response.id
    attributes["gen_ai.response.model"] = response.model
    attributes["gen_ai.response.finish_reasons"] = [response.stop_reason]
    attributes["gen_ai.usage.input_tokens"] = response.usage.input_tokens
    attributes["gen_ai.usage.output_tokens"] = response.usage.output_tokens
    attributes["gen_ai.usage.cache_read.input_tokens"] = response.usage.cache_read_input_tokens
    attributes["gen_ai.usage.cache_write.input_tokens"] = response.usage.cache_creation_input_tokens
    output = [{"role": response.role, "content": [block.text for block in response.content]}]
    attributes["gen_ai.output.messages"] = json.dumps(output)


def _add_tool_calls(calls: dict[int, dict[str, str]], deltas: list[Any]) -> None:
    for delta in deltas:
        call = calls.get(delta.index)
        if call is None:
            call = calls[delta.index] = {"id": delta.id, "name": delta.function.name, "arguments": ""}
        call["arguments"] += delta.function.arguments or ""
