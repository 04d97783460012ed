"""Other instrumentations of LLM calls beside ours: one call is told once.

Must never: import one of them.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import Span

from spancast.model import semconv

_SUPPRESS: Final = ("suppress_instrumentation", "suppress_language_model_instrumentation")
_SUPPRESS_ALL: Final = (
    _SUPPRESS[0],
    getattr(context_api, "_SUPPRESS_INSTRUMENTATION_KEY", _SUPPRESS[0]),
)
_LOGFIRE_MARK: Final = "_is_instrumented_by_logfire"
_INFERENCE: Final = frozenset({"chat", "text_completion", "generate_content"})
_GENAI: Final = "opentelemetry.util.genai._inference_invocation"


def is_suppressed(current: Context) -> bool:
    """Tell whether somebody around the call wants no instrumentation of it."""
    return any(map(current.get, _SUPPRESS))


def active_inference_span(current: Context) -> Span | None:
    """Return the active span where it is another instrumentation's of this very call: ours would be the second."""
    span = trace_api.get_current_span(current)
    # An ended span that is still current may be unread, and is not for us to read.
    attributes = getattr(span, "attributes", None) if span.is_recording() else None
    if not attributes:
        return None
    if attributes.get(semconv.OPERATION_NAME) in _INFERENCE or attributes.get("openinference.span.kind") == "LLM":
        return span
    return span if attributes.get("llm.request.type") in ("chat", "completion") else None


def quiet(context: Context) -> Context:
    """Return ``context`` in which the instrumentations of others leave an LLM call alone."""
    silent = context_api.set_value(_SUPPRESS[1], True, context)
    # Looked up, not imported: it matters only where somebody else has loaded it.
    module: Any = sys.modules.get(_GENAI)
    if module is not None and hasattr(module, "InferenceData"):
        silent = context_api.set_value(module.CLIENT_INFERENCE_CONTEXT_KEY, module.InferenceData(), silent)
    return silent


def is_wrapped_by_logfire(client: object) -> bool:
    """Return whether logfire has wrapped the ``request`` of ``client``, which then makes a span for each call."""
    return getattr(client, _LOGFIRE_MARK, False) is True


def suppress_logfire(context: Context) -> Context:
    """Return ``context`` in which logfire makes no span for a call.

    It knows no key of its own; these suppress HTTP instrumentations too, as logfire itself does around a call.
    """
    for key in _SUPPRESS_ALL:
        context = context_api.set_value(key, True, context)
    return context
