"""What a span tells of an exchange, as attributes. Pure.

Must never: name an attribute that is not in ``semconv``, or drop one for want of room.
"""

from __future__ import annotations

from typing import Final

from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, AttributeValue, Request, Response
from spancast.model.truncation import fitted_json

_EXPENDABLE: Final = ("spancast.", semconv.TRACE_METADATA)
_KEPT: Final = frozenset({semconv.USAGE_COST, semconv.USAGE_TOTAL_TOKENS, semconv.RESPONSE_INCOMPLETE})


def add_content(attributes: Attributes, request: Request) -> None:
    """Add what was said and offered."""
    if request.messages:
        attributes[semconv.INPUT_MESSAGES] = json_codec.encode(request.messages)
    if request.system_instructions:
        attributes[semconv.SYSTEM_INSTRUCTIONS] = json_codec.encode(request.system_instructions)
    if request.tools:
        attributes[semconv.TOOL_DEFINITIONS] = json_codec.encode(request.tools)


def add_response(attributes: Attributes, response: Response, *, content: bool, is_cut: bool) -> None:
    """Add what was answered; ``is_cut`` where it is not whole."""
    if response.id:
        attributes[semconv.RESPONSE_ID] = response.id
    if response.model:
        attributes[semconv.RESPONSE_MODEL] = response.model
    if response.finish_reasons:
        attributes[semconv.RESPONSE_FINISH_REASONS] = response.finish_reasons
    elif is_cut and semconv.RESPONSE_FINISH_REASONS not in attributes:
        # The convention: a missing reason is "error" rather than left out. An inner call may have told one.
        attributes[semconv.RESPONSE_FINISH_REASONS] = ["error"]
    attributes.update(response.attributes)
    attributes.update(response.usage)
    if content and response.messages:
        attributes[semconv.OUTPUT_MESSAGES] = json_codec.encode(response.messages)


def is_empty(response: Response) -> bool:
    """Tell whether nothing of an answer was understood."""
    return not (response.id or response.finish_reasons or response.messages or response.usage or response.attributes)


def error_type(error: BaseException) -> str:
    """Return ``error.type`` of an exception: its class, with the package it is from."""
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}.{kind.__qualname__}"
    )


def within(attributes: Attributes, limit: int, value_limit: int | None) -> Attributes:
    """Fit ``attributes`` into the span's limits: of number, and of characters of a text, by which JSON stays JSON."""
    fitting = _within_number(attributes, limit)
    if value_limit is None:
        return fitting
    return {
        name: fitted_json(value, value_limit) if isinstance(value, str) else value for name, value in fitting.items()
    }


def _within_number(attributes: Attributes, limit: int) -> Attributes:
    """Let ours and custom ones beyond ``limit`` share one JSON attribute; none is dropped."""
    if len(attributes) <= limit:
        return attributes
    excess = len(attributes) - limit
    expendable = [name for name in attributes if name.startswith(_EXPENDABLE) and name not in _KEPT]
    moved = set(expendable[-(excess + 1) :])
    kept: Attributes = {name: value for name, value in attributes.items() if name not in moved}
    rest: dict[str, AttributeValue] = {name: attributes[name] for name in expendable if name in moved}
    kept[semconv.OVERFLOW] = json_codec.encode(rest)
    return kept
