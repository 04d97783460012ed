"""The output message with its finish reason.

Attributes and filters use OpenRouter's values (``tool_calls``), messages the schema's
``FinishReason`` (``tool_call``). The other values are equal.
"""

from __future__ import annotations

from typing import Final

from spancast.model.call import Message, MessagePart

MESSAGE_REASONS: Final = {"tool_calls": "tool_call", "function_call": "tool_call"}


def output_messages(parts: list[MessagePart], reason: str | None, *, role: str = "assistant") -> list[Message]:
    """Return the message of a response as a list, empty if it has no parts."""
    if not parts:
        return []
    message: Message = {"role": role, "parts": parts}
    if reason is not None:
        message["finish_reason"] = MESSAGE_REASONS.get(reason, reason)
    return [message]
