"""Other instrumentations of LLM calls in the process: a call gets one span. None of them is imported."""

from __future__ import annotations

import sys
from typing import Any, Final

from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from spancast.model import semconv
from spancast.otel_private import mark_inference

_SUPPRESS: Final = ("suppress_instrumentation", "suppress_language_model_instrumentation")
_LOGFIRE_MARK: Final = "_is_instrumented_by_logfire"
_INFERENCE: Final = frozenset({"chat", "text_completion", "generate_content", "embeddings"})
_SCOPES: Final = frozenset({"openinference.instrumentation.bedrock"})
"""Instrumentations whose spans say only at their end what they are."""
_LATE: Final = "openinference.instrumentation.google_genai"
"""An instrumentation whose span of a stream is not current when the stream sends its request."""
_KINDS: Final = frozenset({"LLM", "EMBEDDING"})


def is_suppressed(current: Context) -> bool:
    """Return whether instrumentation of LLM calls is suppressed in ``current``."""
    return any(map(current.get, _SUPPRESS))


def active_inference_span(current: Context) -> Span | None:
    """Return the active span if another instrumentation made it for this call; None otherwise."""
    span = trace_api.get_current_span(current)
    if is_own_call(span) or _scope_of(span) in _SCOPES:
        # One of ours is that of another thread. Both may get their attributes at their end.
        return span if span.is_recording() else None
    # An ended span may still be current; its call is over.
    attributes = getattr(span, "attributes", None) if span.is_recording() else None
    if not attributes:
        return None
    if attributes.get(semconv.OPERATION_NAME) in _INFERENCE or attributes.get("openinference.span.kind") in _KINDS:
        return span
    return span if attributes.get("llm.request.type") in ("chat", "completion", "embedding") else None


def makes_late_spans() -> bool:
    """Return whether an instrumentation may be active whose span only the stream knows that it returns."""
    return _LATE in sys.modules


def span_of_stream(stream: Any) -> Span | None:  # noqa: ANN401 - any stream
    """Return the span that another instrumentation keeps in the stream it has returned; None if there is none.

    It is private: without it, the call has a span of ours as well.
    """
    span = getattr(getattr(stream, "_with_span", None), "_span", None)
    return span if isinstance(span, Span) and span.is_recording() else None


def is_own_call(span: Span) -> bool:
    """Return whether ``span`` is that of a call which spancast records."""
    return _scope_of(span) == semconv.SCOPE_NAME and getattr(span, "kind", None) is SpanKind.CLIENT


def _scope_of(span: Span) -> str:
    return getattr(getattr(span, "instrumentation_scope", None), "name", "")


def suppress_others(context: Context) -> Context:
    """Return ``context`` with other instrumentations of LLM calls suppressed."""
    return mark_inference(context_api.set_value(_SUPPRESS[1], True, context))


def unsuppressed(context: Context) -> Context:
    """Return ``context`` without the mark of ``suppress_others``."""
    return Context({key: value for key, value in context.items() if key != _SUPPRESS[1]})


def is_wrapped_by_logfire(client: object) -> bool:
    """Return whether logfire has wrapped ``client.request``; it then makes a span for each call."""
    return getattr(client, _LOGFIRE_MARK, False) is True
