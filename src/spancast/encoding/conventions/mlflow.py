"""MLflow 3.

Source: the server of mlflow 3.17 (what ``/v1/traces`` reads), seen by posting to it. ``gen_ai.*`` stays:
the ``mlflow.*`` beside it wins, nothing is counted twice. Messages are written in OpenAI's shape, the
only one whose chat view always works. Tags and name of a trace are read from its root span only; cost as
charged, else the server would guess.
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


def rename(span: SpanData) -> SpanData:
    """Return ``span`` with the attributes MLflow reads."""
    attributes = {**facts.without(span.attributes, facts.readable_content(span)), **facts.written(_written(span))}
    return span.with_attributes(attributes)


def _written(span: SpanData) -> Iterator[tuple[str, Any]]:
    kind = facts.work(span)
    yield "mlflow.spanType", _json(_TYPES.get(kind))
    if not span.parent_span_id:
        yield _TAG + "mlflow.traceName", str(span.text(semconv.TRACE_NAME) or span.name)
        for name, value in genai_fields.metadata(span).items():
            yield _TAG + name, value if isinstance(value, str) else json_codec.encode(value)
    if kind in ("llm", "embedding"):
        yield from _call(span)


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
    asked, answers = genai_fields.conversation(span), genai_fields.answers(span)
    if asked is not None:
        yield "mlflow.spanInputs", _json({**genai_fields.model_parameters(span), **asked})
    if answers is not None:
        choices = [_choice(index, answer) for index, answer in enumerate(answers)]
        yield "mlflow.spanOutputs", _json({"choices": choices})
    if asked is not None or answers is not None:
        yield "mlflow.message.format", _json("openai")
    yield "mlflow.chat.tools", _json(genai_fields.tools(span))


def _choice(index: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    # The answer is shared by all conventions, so its finish reason is not taken out of it but left out of a copy.
    message = {name: value for name, value in answer.items() if name != "finish_reason"}
    return {"index": index, "message": message, "finish_reason": answer.get("finish_reason")}


def _json(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    # Every mlflow.* attribute is JSON text, a text in quotes included.
    return None if value is None else json_codec.encode(value)
