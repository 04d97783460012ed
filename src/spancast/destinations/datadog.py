"""Datadog's own intake for LLM Observability: spans with cost, cached tokens, session, user and errors.

Source: DataDog/documentation, LLM Observability HTTP API reference (``/api/intake/llm-obs/v1/trace/spans``), and the
limits of ddtrace 4.16. Datadog takes no span that began more than 24 hours ago: such spans become dead letters.
Bodies are not compressed, since neither names a compression. Each span names its session: a batch may have several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from time import time_ns as now_ns
from typing import Any, Final

from spancast.destinations.http import HttpSender, sender_of
from spancast.destinations.otlp_vendors import datadog_site
from spancast.destinations.partial_delivery import PartialDelivery, Row, rows_of
from spancast.destinations.protocol import Delivered, Encoder, Failure, Outcome, Payload
from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list, is_mapping

_API: Final = "/api"
INTAKE: Final = "/intake/llm-obs/v1/trace/spans"
VALIDATE: Final = "/v1/validate"
MAX_AGE_NS: Final = 24 * 3600 * 1_000_000_000
_MARGIN_NS: Final = 60 * 1_000_000_000
"""Clocks differ."""
_MAX_BYTES: Final = 5_000_000
_MAX_ROWS: Final = 1024
_JSON: Final = "application/json"
_ROOT: Final = "undefined"
_KINDS: Final[Mapping[facts.Work, str]] = {
    "llm": "llm", "embedding": "embedding", "tool": "tool", "agent": "agent", "retriever": "retrieval",
    "group": "workflow", "other": "task",
}  # fmt: skip
_NO_APP: Final = re.compile(r"[^a-z0-9_\-:./]|_(?=_)")
_MAX_APP_LENGTH: Final = 193
_ENVIRONMENT: Final = "deployment.environment.name"
_SCALARS: Final = (str, int, float, bool)


def datadog_span(span: SpanData) -> dict[str, Any]:
    """Return ``span`` in Datadog's form."""
    return facts.given(
        name=span.name,
        span_id=span.span_id,
        trace_id=span.trace_id,
        parent_id=span.parent_span_id or _ROOT,
        start_ns=span.start_ns,
        duration=max(span.end_ns - span.start_ns, 0),
        status="error" if span.status == "error" else "ok",
        session_id=span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID),
        tags=_tags(span) or None,
        meta=_meta(span),
        metrics=_metrics(span) or None,
    )


def _tags(span: SpanData) -> list[str]:
    user, environment = span.text(semconv.USER_ID), span.resource.attributes.get(_ENVIRONMENT)
    named = {"user_id": user, "env": environment, "trace_name": span.text(semconv.TRACE_NAME)}
    own = {name: value for name, value in genai_fields.own_keys(span).items() if isinstance(value, _SCALARS)}
    return [
        *(f"{name}:{_text(value)}" for name, value in {**named, **own}.items() if value is not None),
        *genai_fields.tags(span),
    ]


def _meta(span: SpanData) -> dict[str, Any]:
    work = facts.work(span)
    is_call = work in ("llm", "embedding")
    parameters = genai_fields.model_parameters(span)
    metadata = {
        **parameters,
        **facts.given(
            finish_reason=genai_fields.finish_reason(span),
            provider_name=span.text(semconv.RESPONSE_PROVIDER),
            cost_source=genai_fields.costs(span).source,
        ),
        **genai_fields.metadata(span),
    }
    if genai_fields.tags(span):
        metadata.pop("tags", None)
    read, written = _messages(span) if work == "llm" else _values(span, "documents" if work == "embedding" else "value")
    if read is not None and parameters:
        read["parameters"] = parameters
    return facts.given(
        kind=_KINDS[work],
        model_name=facts.model(span) if is_call else None,
        model_provider=span.text(semconv.PROVIDER_NAME) if is_call else None,
        input=read,
        output=written,
        metadata={name: value if isinstance(value, _SCALARS) else json_codec.encode(value)
                  for name, value in metadata.items() if value is not None} or None,
        tool_definitions=_tools(span),
        error=_error(span) if span.status == "error" else None,
    )  # fmt: skip


def _messages(span: SpanData) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    asked, answered = genai_fields.conversation(span), genai_fields.answers(span)
    return (
        None if asked is None else {"messages": list(_read_messages(asked["messages"]))},
        None if answered is None else {"messages": list(_read_messages(answered))},
    )


def _read_messages(messages: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    names: dict[str, str] = {}
    for message in messages:
        content, given = _content(message.get("content")), message.get("tool_calls")
        calls = [_tool_call(call) for call in given if is_mapping(call)] if is_list(given) else []
        names |= {call["tool_id"]: call["name"] for call in calls}
        results = None
        if (answered := message.get("tool_call_id")) is not None:
            name = names.get(str(answered), "")
            results = [{"name": name, "result": content, "tool_id": str(answered), "type": "tool_result"}]
        yield facts.given(role=message.get("role"), content=content, tool_calls=calls or None, tool_results=results)


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = _mapping(call.get("function"))
    arguments = function.get("arguments")
    decoded = json_codec.decode(arguments) if isinstance(arguments, str) else arguments
    given = decoded if is_mapping(decoded) else {"arguments": arguments}
    return {
        "name": _text(function.get("name")),
        "arguments": given,
        "tool_id": _text(call.get("id")),
        "type": "function",
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if is_mapping(value) else {}


def _content(content: Any) -> str:  # noqa: ANN401 - a text, or parts
    if content is None or isinstance(content, str):
        return content or ""
    texts = [part.get("content") for part in content if is_mapping(part)] if is_list(content) else []
    return "\n".join(text for text in texts if isinstance(text, str)) or json_codec.encode(content)


def _values(span: SpanData, name: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    asked, answered = facts.question(span), facts.answer(span)
    given = [{"text": asked}] if name == "documents" else asked
    return None if asked is None else {name: given}, None if answered is None else {"value": answered}


def _tools(span: SpanData) -> list[dict[str, Any]] | None:
    found = [_mapping(tool.get("function")) or tool for tool in genai_fields.tools(span) or () if is_mapping(tool)]
    return [
        facts.given(
            name=tool.get("name"),
            description=tool.get("description"),
            schema=tool.get("parameters") or tool.get("input_schema"),
        )
        for tool in found
    ] or None


def _error(span: SpanData) -> dict[str, str]:
    kind = span.text(semconv.ERROR_TYPE) or ""
    return {"type": kind, "message": span.status_message or kind, "stack": ""}


def _metrics(span: SpanData) -> dict[str, Any]:
    if facts.work(span) not in ("llm", "embedding"):
        return {}
    tokens, costs = facts.usage(span), genai_fields.costs(span)
    cached = (tokens.cache_read or 0) + (tokens.cache_write or 0)
    return facts.given(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        total_tokens=tokens.total,
        non_cached_input_tokens=max(tokens.input - cached, 0) if tokens.input is not None and cached else None,
        cache_read_input_tokens=tokens.cache_read,
        cache_write_input_tokens=tokens.cache_write,
        reasoning_output_tokens=tokens.reasoning,
        input_cost=costs.input,
        output_cost=costs.output,
        total_cost=costs.total,
        time_to_first_token=span.number(semconv.RESPONSE_TIME_TO_FIRST_CHUNK),
    )


def _text(value: Any) -> str:  # noqa: ANN401 - any scalar
    return value if isinstance(value, str) else "" if value is None else json_codec.encode(value)


class DatadogDestination:
    """Posts each batch to Datadog's intake of spans."""

    def __init__(self, encoder: Encoder, sender: HttpSender, ml_app: str) -> None:
        self.encoder = encoder
        self._sender = sender
        name = _NO_APP.sub("", ml_app.lower().replace(" ", "_"))[:_MAX_APP_LENGTH].rstrip("_")
        envelope = {"ml_app": name, "tags": [f"service:{ml_app}", "source:spancast"]}
        self._start = b'{"data":{"type":"span","attributes":%s,"spans":[' % json_codec.encode(envelope).encode()[:-1]
        self._delivery = PartialDelivery("Datadog", max_rows=_MAX_ROWS, max_bytes=_MAX_BYTES, row_overhead=1)

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Send ``payload``, without spans that Datadog would not take for their age."""
        oldest = now_ns() - MAX_AGE_NS + _MARGIN_NS
        recent = [span for span in payload.spans if span.start_ns >= oldest]
        rows = rows_of(recent, (json_codec.encode(datadog_span(span)) for span in recent))
        outcome = self._delivery.deliver(rows, self._send, timeout_s)
        too_old = frozenset((span.trace_id, span.span_id) for span in payload.spans if span.start_ns < oldest)
        if not too_old or not isinstance(outcome, Delivered):
            return outcome
        return Delivered(len(too_old), "Datadog takes no span that began more than 24 hours ago", too_old)

    def test_connection(self, timeout_s: float) -> Outcome:
        """Test the API key; this says nothing about the name of the application."""
        return self._sender.send(b"", _JSON, gzip=False, timeout_s=timeout_s, suffix=VALIDATE, method="GET").outcome

    def close(self) -> None:
        """Close the connections."""
        self._delivery.close()
        self._sender.close()

    def _send(self, rows: Sequence[Row], timeout_s: float) -> Delivered | Failure:
        body = self._start + b",".join(row.body for row in rows) + b"]}}}"
        return self._sender.send(body, _JSON, gzip=False, timeout_s=timeout_s, suffix=INTAKE).outcome


def create(config: Any, encoder: Encoder) -> DatadogDestination:  # noqa: ANN401 - a model made of the vendor's row
    """Return the destination of ``config``, whose fields are those of the row ``datadog`` in ``otlp_vendors``.

    Raises:
        ConfigError: A certificate or a proxy cannot be used.
    """
    headers = {"DD-API-KEY": config.api_key.get_secret_value()}
    site = datadog_site(config.url)
    base = f"https://api.{site}" if site else config.url.rstrip("/")
    sender = sender_of(config, base + _API, product="Datadog", headers=headers)
    return DatadogDestination(encoder, sender, config.ml_app)
