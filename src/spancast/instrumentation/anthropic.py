"""Patches of anthropic: Messages, its stream helper and the beta API."""

from __future__ import annotations

from typing import Any, Final

from spancast.dialects.anthropic_messages.reader import ANTHROPIC_MESSAGES
from spancast.instrumentation.stainless import Resource, stainless_patches

_CLASSES: Final = ("Messages", "AsyncMessages")


def _without_own_span(client: Any, options: Any) -> Any:  # noqa: ANN401 - the SDK's client and options
    """Return options that make the SDK (2.x) start no span of its own, so that a call has one span.

    A client with a ``tracer_provider`` of its own exports elsewhere; its options are not changed.
    """
    if not getattr(options, "span_name", None):
        return options
    own = getattr(client, "_open_telemetry", None)
    if own and own.get("tracer_provider") is not None:
        return options
    changed = options.model_copy()
    changed.span_name = None
    return changed


PATCHES: Final = stainless_patches(
    package="anthropic",
    endpoints={"/v1/messages": ANTHROPIC_MESSAGES},
    resources=(
        Resource("messages", "anthropic.resources.messages.messages", _CLASSES, ("create", "parse", "stream")),
        Resource(
            "beta.messages", "anthropic.resources.beta.messages.messages", _CLASSES, ("create", "parse", "stream")
        ),
    ),
    key_methods=frozenset(f"anthropic.resources.beta.messages.messages:{owner}.tool_runner" for owner in _CLASSES),
    prepare=_without_own_span,
)
