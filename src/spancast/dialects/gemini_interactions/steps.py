"""Conversion of steps and content of the Interactions API to messages and parts.

No item is dropped: one of an unknown type becomes a generic part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.content import (
    generic_part,
    media_part,
    only_text,
    reasoning_part,
    text_part,
    tool_call_part,
    tool_result_part,
)
from spancast.dialects.sanitize import add_rest, to_json_data, unknown_part
from spancast.model.call import Message, MessagePart

Fields = Mapping[str, Any]

_MEDIA: Final = frozenset({"audio", "document", "image", "video"})
_CALL: Final = "_call"
_RESULT: Final = "_result"
_OPAQUE: Final = frozenset({"type", "signature"})
_ROLES: Final = {"model": "assistant"}
_STEP_ROLES: Final = {"model_output": "assistant", "user_input": "user"}
_PAIR: Final = 2


def input_messages(value: object) -> list[Message]:
    """Return ``input`` as messages: a text, a content, a turn (``role``, ``content``), a step, or a list of these.

    Consecutive steps of the model are one message, as in the response, and so are consecutive contents of the user.
    """
    messages: list[Message] = []
    joined: str | None = None
    for item in accessors.items(value) or (value,):
        fields = accessors.fields(item)
        if not fields and not isinstance(item, str):
            continue
        role = _role(fields)
        if "role" not in fields and role == joined:
            messages[-1]["parts"] += item_parts(item)
        elif len(fields) == _PAIR and (text := _step_text(fields)) is not None:
            messages.append({"role": role, "parts": [text_part(text)]})
        else:
            is_turn = "role" in fields
            parts = content_parts(fields.get("content")) if is_turn else item_parts(item)
            message: Message = {"role": role, "parts": parts}
            messages.append(add_rest(message, fields, _TURN_FIELDS) if is_turn else message)
        joined = None if "role" in fields else role
    return messages


def _step_text(step: Fields) -> str | None:
    """Return the text of a step that has nothing else; None for any other."""
    is_step = step.get("type") in ("model_output", "user_input")
    content = only_text(step.get("content"), _PAIR) if is_step else None
    return content if content is not None and step["content"][0].get("type") == "text" else None


def _role(item: Fields) -> str:
    kind = accessors.text(item.get("type")) or "text"
    if (role := accessors.text(item.get("role"))) is not None:
        return _ROLES.get(role, role)
    if kind in _STEP_ROLES:
        return _STEP_ROLES[kind]
    if kind == "function_result":
        return "tool"
    is_model = kind in ("model_output", "thought") or kind.endswith((_CALL, _RESULT))
    return "assistant" if is_model else "user"


def output_parts(steps: object) -> list[MessagePart]:
    """Return the steps of the model in a response as parts of one message, in order."""
    given = [step for step in accessors.items(steps) if accessors.fields(step).get("type") != "user_input"]
    return [part for step in given for part in item_parts(step)]


def awaits_caller(steps: object) -> bool:
    """Return whether the caller must execute a function."""
    return any(accessors.fields(step).get("type") == "function_call" for step in accessors.items(steps))


def content_parts(content: object) -> list[MessagePart]:
    """Return the content of a step or a turn: a text, one content, or a list of these."""
    if isinstance(content, str):
        return [text_part(content)]
    given = accessors.items(content) or ((content,) if accessors.fields(content) else ())
    return [part for item in given for part in item_parts(item)]


def item_parts(value: object) -> list[MessagePart]:
    """Return one step or content as parts."""
    if isinstance(value, str):
        return [text_part(value)]
    item = accessors.fields(value)
    kind = accessors.text(item.get("type")) or ("text" if "text" in item else "unknown")
    if kind in ("model_output", "user_input"):
        return _with_item(content_parts(item.get("content")), item)
    if kind == "thought":
        summary = content_parts(item.get("summary"))
        texts = [{**part, "type": "reasoning"} if part["type"] == "text" else part for part in summary]
        # Without a summary, an empty part records that there was a thought.
        return _with_item(texts or [reasoning_part("")], item)
    return [_part(kind, item)]


def _with_item(parts: list[MessagePart], item: Fields) -> list[MessagePart]:
    """Add the other fields of a step to its first part."""
    if parts:
        add_rest(parts[0], item, _STEP_FIELDS)
    return parts


_TURN_FIELDS: Final = frozenset({"type", "role", "content"})
_STEP_FIELDS: Final = _OPAQUE | {"content", "summary"}


def _part(kind: str, item: Fields) -> MessagePart:  # noqa: PLR0911 - one kind each
    if kind == "text" and isinstance(text := item.get("text"), str):
        return add_rest(text_part(text), item, _OPAQUE | {"text"})
    if kind in _MEDIA:
        data, uri, mime_type = (accessors.text(item.get(name)) for name in ("data", "uri", "mime_type"))
        if data is not None or uri is not None:
            part = media_part(kind, url=uri, data=data, mime_type=mime_type)
            return add_rest(part, item, _OPAQUE | {"data", "uri", "mime_type"})
    item_id, name = accessors.text(item.get("id")), accessors.text(item.get("name"))
    call_id = accessors.text(item.get("call_id"))
    if kind == "function_call":
        return add_rest(tool_call_part(item_id, name, item.get("arguments")), item, _CALL_FIELDS)
    if kind == "function_result":
        result = item.get("result")
        is_content = accessors.items(result) and all(
            accessors.fields(one).get("type") for one in accessors.items(result)
        )
        part = tool_result_part(call_id, content_parts(result) if is_content else result)
        return add_rest(part, item, _RESULT_FIELDS)
    if kind.endswith(_CALL):
        tool = kind.removesuffix(_CALL)
        call = {**_others(item), "type": tool}
        return generic_part("server_tool_call", id=item_id, name=name or tool, server_tool_call=call)
    if kind.endswith(_RESULT):
        response = {**_others(item), "type": kind.removesuffix(_RESULT)}
        return generic_part("server_tool_call_response", id=call_id, server_tool_call_response=response)
    return unknown_part(kind, {name: value for name, value in item.items() if name != "signature"})


_CALL_FIELDS: Final = _OPAQUE | {"id", "name", "arguments"}
_RESULT_FIELDS: Final = _OPAQUE | {"call_id", "result"}


def _others(item: Fields) -> dict[str, Any]:
    kept: dict[str, Any] = to_json_data(
        {name: value for name, value in item.items() if name not in _OPAQUE | {"id", "call_id"}}
    )
    return kept
