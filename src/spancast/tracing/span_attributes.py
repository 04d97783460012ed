"""Span attributes of a request and a response. Pure functions.

Every attribute name is in ``semconv``. Attributes beyond a span's limit move into one attribute instead of being
dropped.
"""

from __future__ import annotations

from typing import Any, Final

from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, AttributeValue, Request, Response
from spancast.model.truncation import fitted_json

_EXPENDABLE: Final = ("spancast.", semconv.TRACE_METADATA)
_KEPT: Final = frozenset(
    {
        semconv.USAGE_COST,
        semconv.COST_ESTIMATED,
        semconv.COST_SOURCE,
        semconv.USAGE_TOTAL_TOKENS,
        semconv.RESPONSE_INCOMPLETE,
    }
)


def add_content(attributes: Attributes, request: Request) -> None:
    """Add the input messages, system instructions and tool definitions."""
    if request.messages:
        attributes[semconv.INPUT_MESSAGES] = json_codec.encode(request.messages)
    if request.system_instructions:
        attributes[semconv.SYSTEM_INSTRUCTIONS] = json_codec.encode(request.system_instructions)
    if request.tools:
        attributes[semconv.TOOL_DEFINITIONS] = json_codec.encode(request.tools)


def add_response(attributes: Attributes, response: Response, *, content: bool, is_cut: bool) -> None:
    """Add the fields of ``response``; ``is_cut`` if it is incomplete."""
    if response.id:
        attributes[semconv.RESPONSE_ID] = response.id
    if response.model:
        attributes[semconv.RESPONSE_MODEL] = response.model
    if response.conversation_id:
        attributes.setdefault(semconv.CONVERSATION_ID, response.conversation_id)
    if response.finish_reasons:
        attributes[semconv.RESPONSE_FINISH_REASONS] = response.finish_reasons
    elif is_cut and semconv.RESPONSE_FINISH_REASONS not in attributes:
        # The convention requires "error" instead of a missing reason. An inner call may have set one.
        attributes[semconv.RESPONSE_FINISH_REASONS] = ["error"]
    attributes.update(response.attributes)
    attributes.update(response.usage)
    if content:
        _add_content(attributes, response)


def _add_content(attributes: Attributes, response: Response) -> None:
    if response.messages:
        attributes[semconv.OUTPUT_MESSAGES] = json_codec.encode(response.messages)
    if response.prompt_messages:
        own: Any = json_codec.decode(str(attributes.get(semconv.INPUT_MESSAGES, "[]")))
        attributes[semconv.INPUT_MESSAGES] = json_codec.encode([*response.prompt_messages, *own])
    if response.system_instructions:
        attributes.setdefault(semconv.SYSTEM_INSTRUCTIONS, json_codec.encode(response.system_instructions))
    if response.tools:
        attributes.setdefault(semconv.TOOL_DEFINITIONS, json_codec.encode(response.tools))


def is_empty(response: Response) -> bool:
    """Return whether no field of a response was recognized."""
    return not (response.id or response.finish_reasons or response.messages or response.usage or response.attributes)


def is_cut(response: Response) -> bool:
    """Return whether a stream without a failure has ended before its finish reason."""
    return response.failure is None and set(response.finish_reasons) <= {"error"}


def error_type(error: BaseException) -> str:
    """Return ``error.type`` of an exception: its class name, with its package unless it is a builtin."""
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}.{kind.__qualname__}"
    )


def fit_to_limit(attributes: Attributes, limit: int, value_limit: int | None) -> Attributes:
    """Return ``attributes`` fitted to the span's limits: their number, and the characters of a text.

    Truncated JSON is still valid JSON.
    """
    fitting = _fit_to_count(attributes, limit)
    if value_limit is None:
        return fitting
    return {
        name: fitted_json(value, value_limit) if isinstance(value, str) else value for name, value in fitting.items()
    }


def _fit_to_count(attributes: Attributes, limit: int) -> Attributes:
    """Move spancast's own and custom attributes beyond ``limit`` into one JSON attribute; none is dropped."""
    if len(attributes) <= limit:
        return attributes
    excess = len(attributes) - limit
    expendable = [name for name in attributes if name.startswith(_EXPENDABLE) and name not in _KEPT]
    moved = set(expendable[-(excess + 1) :])
    kept: Attributes = {name: value for name, value in attributes.items() if name not in moved}
    rest: dict[str, AttributeValue] = {name: attributes[name] for name in expendable if name in moved}
    kept[semconv.OVERFLOW] = json_codec.encode(rest)
    return kept
