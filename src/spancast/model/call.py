"""One request to a model with its answer, neutral of any provider.

Attribute dicts are keyed by names from ``semconv``; messages have the JSON shape of the
GenAI semantic conventions, so that nothing is copied between reading and writing.
Must never: import OpenTelemetry, an SDK, or do I/O.
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


# Frozen dataclasses cost a microsecond each to make; these are made once a call and changed by nobody.
@dataclass(slots=True, kw_only=True)
class Request:
    """What was asked.

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
    """Parameters out of the API's range: the field, what was given, what is allowed."""


@dataclass(slots=True, kw_only=True)
class Failure:
    """Why there is no (whole) answer.

    ``type`` is of low cardinality (``error.type``): the provider's error code, else the
    exception's class name, else ``_OTHER``. ``message`` may quote content.
    """

    type: str
    message: str = ""


@dataclass(slots=True, kw_only=True)
class Response:
    """What was answered; for a cut stream, what had arrived.

    ``usage`` holds token counts (int) and cost (float, USD) by canonical name, input and
    output totals inclusive of cache and reasoning. ``failure`` is set where the answer
    itself reports one (an error body with HTTP 200, a failed choice, an error event).
    """

    id: str | None = None
    model: str | None = None
    finish_reasons: list[str] = field(default_factory=list[str])
    messages: list[Message] = field(default_factory=list[Message])
    usage: Mapping[str, int | float] = field(default_factory=dict[str, "int | float"])
    attributes: Attributes = field(default_factory=dict[str, AttributeValue])
    failure: Failure | None = None
