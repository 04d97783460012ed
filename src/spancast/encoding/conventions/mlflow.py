"""MLflow 3.

Source: tests with the ``/v1/traces`` endpoint of the server of mlflow 3.17. ``gen_ai.*`` is kept: the server prefers
``mlflow.*`` and counts nothing twice. Messages have OpenAI's form, the only one that its chat view always shows. The
server reads tags and name of a trace from its root span only. Without the charged cost it would estimate one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv

_TYPES: Final[Mapping[str, str]] = {
    "llm": "CHAT_MODEL", "embedding": "EMBEDDING", "tool": "TOOL", "agent": "AGENT", "retriever": "RETRIEVER",
    "group": "CHAIN",
}  # fmt: skip
_TAG: Final = "mlflow.traceTag."


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with the attributes that MLflow reads."""
    attributes = {**facts.without(span.attributes, facts.readable_content(span)), **facts.written(_attributes(span))}
    return span.with_attributes(attributes)


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    kind = facts.work(span)
    yield "mlflow.spanType", _json(_TYPES.get(kind))
    if not span.parent_span_id:
        yield _TAG + "mlflow.traceName", str(span.text(semconv.TRACE_NAME) or span.name)
        for name, value in genai_fields.metadata(span).items():
            yield _TAG + name, value if isinstance(value, str) else json_codec.encode(value)
    if kind in ("llm", "embedding"):
        yield from _call(span)
    else:
        yield "mlflow.spanInputs", _json(facts.question(span))
        yield "mlflow.spanOutputs", _json(facts.answer(span))


def _call(span: SpanData) -> Iterator[tuple[str, Any]]:
    tokens, costs = facts.usage(span), genai_fields.costs(span)
    counts = facts.given(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        total_tokens=tokens.total,
        cache_read_input_tokens=tokens.cache_read,
        cache_creation_input_tokens=tokens.cache_write,
    )
    charged = facts.given(input_cost=costs.input, output_cost=costs.output, total_cost=costs.total)
    yield "mlflow.chat.tokenUsage", _json(counts or None)
    yield "mlflow.llm.cost", _json(charged or None)
    yield "mlflow.llm.model", _json(facts.model(span))
    yield "mlflow.llm.provider", _json(span.text(semconv.PROVIDER_NAME))
    request, answers = genai_fields.conversation(span), genai_fields.answers(span)
    if request is not None:
        yield "mlflow.spanInputs", _json({**genai_fields.model_parameters(span), **request})
    if answers is not None:
        choices = [_choice(index, answer) for index, answer in enumerate(answers)]
        yield "mlflow.spanOutputs", _json({"choices": choices})
    if request is not None or answers is not None:
        yield "mlflow.message.format", _json("openai")
    yield "mlflow.chat.tools", _json(genai_fields.tools(span))


def _choice(index: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    # All conventions share the answer, so the finish reason is left out of a copy.
    message = {name: value for name, value in answer.items() if name != "finish_reason"}
    return {"index": index, "message": message, "finish_reason": answer.get("finish_reason")}


def _json(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    # Every mlflow.* attribute is JSON text; a string is in quotes.
    return None if value is None else json_codec.encode(value)
