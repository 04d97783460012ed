"""One call of a model: request, response and failure, independent of the provider.

Attribute dicts are keyed by names from ``semconv``. Messages have the JSON shape of the
GenAI semantic conventions, so that they are written without copying.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

AttributeValue: TypeAlias = str | bool | int | float | list[str] | list[bool] | list[int] | list[float]
Attributes: TypeAlias = dict[str, AttributeValue]

MessagePart: TypeAlias = dict[str, Any]
"""A message part: ``{"type": "text", "content": ...}``, ``tool_call``, ``tool_call_response``,
``reasoning``, ``uri``, ``file``, ... (gen-ai-input-messages.json)."""

Message: TypeAlias = dict[str, Any]
"""``{"role": str, "parts": [MessagePart], "name"?: str}``; output messages also have ``finish_reason``."""


# Not frozen: creating a frozen dataclass takes a microsecond longer. Not modified after creation.
@dataclass(slots=True, kw_only=True)
class Request:
    """The request.

    ``attributes`` holds every parameter under its canonical name. ``messages``,
    ``system_instructions`` and ``tools`` are empty when content is not captured.
    """

    model: str | None
    stream: bool = False
    messages: list[Message] = field(default_factory=list[Message])
    system_instructions: list[MessagePart] = field(default_factory=list[MessagePart])
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    attributes: Attributes = field(default_factory=dict[str, AttributeValue])
    validation_errors: list[str] = field(default_factory=list[str])
    """Parameters outside the API's range: the field, the value given and the range."""


@dataclass(slots=True, kw_only=True)
class Failure:
    """The reason that a response is missing or incomplete.

    ``type`` has low cardinality (``error.type``): the provider's error code, else the
    exception's class name, else ``_OTHER``. ``message`` may quote content.
    """

    type: str
    message: str = ""


@dataclass(slots=True, kw_only=True)
class Response:
    """The response; for an interrupted stream, the part that was received.

    ``usage`` holds token counts (int) and cost (float, USD) by canonical name, input and
    output totals including cache and reasoning. ``failure`` is set if the response
    itself reports an error (an error body with HTTP 200, a failed choice, an error event).
    """

    id: str | None = None
    model: str | None = None
    finish_reasons: list[str] = field(default_factory=list[str])
    messages: list[Message] = field(default_factory=list[Message])
    usage: Mapping[str, int | float] = field(default_factory=dict[str, "int | float"])
    attributes: Attributes = field(default_factory=dict[str, AttributeValue])
    failure: Failure | None = None
    conversation_id: str | None = None
    """The conversation that the provider has made or continued; a session id of the caller takes precedence."""
    prompt_messages: list[Message] = field(default_factory=list[Message])
    """Messages of a stored prompt, which the provider puts before those of the request."""
    system_instructions: list[MessagePart] = field(default_factory=list[MessagePart])
    """Instructions that the request does not have: of a stored prompt, or of a fetched response."""
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Tools that the request does not have, as ``system_instructions``."""
