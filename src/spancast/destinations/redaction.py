"""What a destination may not see is taken out of a span here, before anything else is done with it.

Privacy mode takes out what was said (and what quotes it: error texts, tool definitions, the
content attributes of other instrumentations); masks take patterns out of every text. A mask that
fails hides the whole value and never costs the span.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, cast

from spancast.destinations.patterns import Pattern
from spancast.destinations.plain_span import PlainEvent, PlainSpan
from spancast.errors import shielded, tally, warn_once
from spancast.model import json_text, semconv
from spancast.model.json_text import is_list, is_mapping

MASKING_FAILED: Final = "[masking failed]"
TextMask: TypeAlias = Callable[[str], "str | None"]
"""Returns the text to send, or None where it failed."""

_FOREIGN_CONTENT: Final = frozenset(
    {
        # OpenTelemetry: tools, and the names of earlier conventions
        "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.prompt", "gen_ai.completion",
        "gen_ai.completion.tools", "gen_ai.event.content", "exception.message", "exception.stacktrace",
        # OpenInference
        "input.value", "output.value", "llm.prompts", "llm.completions", "llm.input_messages", "llm.output_messages",
        "llm.tools", "llm.function_call", "llm.invocation_parameters", "llm.prompt_template.template",
        "llm.prompt_template.variables", "tool.parameters", "retrieval.documents", "reranker.query",
        # OpenLLMetry, Langfuse, MLflow, Pydantic AI, Vercel AI SDK
        "traceloop.entity.input", "traceloop.entity.output", "langfuse.observation.input",
        "langfuse.observation.output", "langfuse.trace.input", "langfuse.trace.output", "mlflow.spanInputs",
        "mlflow.spanOutputs", "all_messages_events", "pydantic_ai.all_messages", "final_result", "tool_arguments",
        "tool_response", "request_data", "response_data", "events", "ai.prompt", "ai.prompt.messages",
        "ai.prompt.tools", "ai.response.text", "ai.response.toolCalls", "ai.response.object", "ai.toolCall.args",
        "ai.toolCall.result",
        # OpenRouter's own Broadcast
        "trace.input", "trace.output", "span.input", "span.output",
    }
)  # fmt: skip
_CONTENT_NAMES: Final = semconv.CONTENT | _FOREIGN_CONTENT
_CONTENT_FAMILIES: Final = re.compile(
    r"gen_ai\.(?:prompt|completion)\.(?:\d|variable\.)"
    r"|llm\.(?:prompts|completions|input_messages|output_messages|tools|request\.functions)\."
    r"|(?:retrieval|reranker|embedding)\.[a-z_]+\.\d"
)
_EVENT_CONTENT: Final = frozenset({"content", "body", "event_body", "message", "tool_calls", "arguments"})
_STRUCTURAL: Final = frozenset(
    {
        semconv.SESSION_ID, semconv.CONVERSATION_ID, semconv.RESPONSE_ID, semconv.OPERATION_NAME,
        semconv.PROVIDER_NAME, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL, semconv.RAW_TRACE_ID,
        semconv.RAW_PARENT_SPAN_ID, semconv.ERROR_TYPE, semconv.RESPONSE_FINISH_REASONS, semconv.SERVER_ADDRESS,
    }
)  # fmt: skip
"""What holds a trace together is not masked, lest a pattern for digits cut a session in two."""


def is_content(name: str) -> bool:
    """Tell whether the attribute ``name`` holds or quotes what was said."""
    return name in _CONTENT_NAMES or _CONTENT_FAMILIES.match(name) is not None


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is taken out; ``key`` is equal for equal redactions."""

    is_private: bool = False
    masks: tuple[TextMask, ...] = ()
    key: str = ""

    def __bool__(self) -> bool:
        return self.is_private or bool(self.masks)

    def apply(self, span: PlainSpan) -> PlainSpan:
        """Return ``span`` without what may not be seen."""
        if self.is_private:
            span = without_content(span)
        return _masked_span(span, self.masks) if self.masks else span

    def text(self, text: str) -> str:
        """Return one ``text`` as the masks leave it."""
        return _masked_text(text, self.masks)


NOTHING_REDACTED: Final = Redaction()


def without_content(span: PlainSpan) -> PlainSpan:
    """Return ``span`` as privacy mode shows it: model, usage, cost, times, ids, metadata and error type stay."""
    return replace(
        span,
        attributes={name: value for name, value in span.attributes.items() if not is_content(name)},
        events=tuple(_without_content(event) for event in span.events),
        status_message="",
    )


def _without_content(event: PlainEvent) -> PlainEvent:
    quotes = event.name.startswith(("gen_ai.", "llm.", "ai."))
    attributes = {
        name: value
        for name, value in event.attributes.items()
        if not is_content(name) and not (quotes and name in _EVENT_CONTENT)
    }
    return replace(event, attributes=attributes)


def pattern_mask(pattern: str, replacement: str) -> TextMask:
    """Return a mask that puts ``replacement`` wherever ``pattern`` (a regular expression) is found."""
    compiled = Pattern(pattern)
    return lambda text: compiled.replaced(text, replacement)


def function_mask(function: Callable[[str], Any]) -> TextMask:
    """Return a mask of the user's ``function``; what it returns is sent as text."""

    @shielded
    def masked(text: str) -> str:
        return str(function(text))

    return masked


def _masked_span(span: PlainSpan, masks: Sequence[TextMask]) -> PlainSpan:
    return replace(
        span,
        name=_masked_text(span.name, masks),
        attributes=_masked_attributes(span.attributes, masks),
        events=tuple(replace(event, attributes=_masked_attributes(event.attributes, masks)) for event in span.events),
        status_message=_masked_text(span.status_message, masks),
    )


def _masked_attributes(attributes: Mapping[str, Any], masks: Sequence[TextMask]) -> dict[str, Any]:
    return {name: value if name in _STRUCTURAL else _masked(value, masks) for name, value in attributes.items()}


def _masked(value: Any, masks: Sequence[TextMask]) -> Any:  # noqa: ANN401 - any attribute value
    if isinstance(value, str):
        if value[:1] in "[{" and value:
            inner = json_text.decode(value)
            if inner is not None:
                # Inside the texts, so that what is sent is JSON still.
                return json_text.encode(_masked(inner, masks))
        return _masked_text(value, masks)
    if is_mapping(value):
        return {key: _masked(item, masks) for key, item in value.items()}
    if is_list(value):
        return [_masked(item, masks) for item in cast("Iterable[Any]", value)]
    return value


def _masked_text(text: str, masks: Sequence[TextMask]) -> str:
    for mask in masks:
        if not text:
            break
        masked = mask(text)
        if masked is None:
            tally.add("masking_failed")
            warn_once("masking_failed", "spancast: a mask failed; what it should have masked is hidden altogether")
            return MASKING_FAILED
        text = masked
    return text
