"""Conversion of contents, parts and tools of the Gemini API to messages and parts.

Names arrive in both cases: google-genai sends ``inlineData: {mime_type}``, other clients camelCase, and its objects
have snake_case. ``named`` gives snake_case. No part is dropped: one of an unknown kind becomes a generic part.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

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
from spancast.dialects.sanitize import add_rest, modality, to_json_data, unknown_part
from spancast.model.call import Message, MessagePart

Fields = Mapping[str, Any]

_OBJECT: Final = frozenset({dict})
_PAIR: Final = 2
_UPPER: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")
_NAMES_CACHED: Final = 1_024
_NAME_LIMIT: Final = 64
_ROLES: Final = {"model": "assistant", "function": "tool"}
_OPAQUE: Final = frozenset({"thought_signature", "thought"})
"""Fields beside the kind of a part that say nothing to a reader."""
_TEXT_FIELDS: Final = _OPAQUE | {"text"}
_CODE: Final = "code_execution"


@functools.lru_cache(_NAMES_CACHED)
def _snake(name: str) -> str:
    return _UPPER.sub(r"_\1", name).lower() if len(name) <= _NAME_LIMIT and not name.islower() else name


def named(value: object) -> dict[str, Any]:
    """Return the fields of ``value`` that are present, their names in snake_case."""
    given = accessors.fields(value)
    return {_snake(str(name)): item for name, item in given.items() if item is not None}


def content_messages(value: object) -> list[Message]:
    """Return contents as messages: a text, a part, a content, or a list of these."""
    given = accessors.items(value) or (value,)
    return [
        _text_message(item) or _message(item)
        for item in given
        if isinstance(item, str) or accessors.items(item) or accessors.fields(item)
    ]


def _text_message(value: Any) -> Message | None:  # noqa: ANN401 - wire JSON
    """Return a content with a role and one text as a message; None for any other."""
    if (
        type(value) in _OBJECT
        and len(value) == _PAIR
        and (text := only_text(value.get("parts"))) is not None
        and type(role := value.get("role")) is str
        and role
    ):
        return {"role": _ROLES.get(role, role), "parts": [text_part(text)]}
    return None


def content_parts(value: object) -> list[MessagePart]:
    """Return the parts of one content, which may also be a text, a part or a list of parts."""
    if isinstance(value, str):
        return [text_part(value)]
    if accessors.items(value):
        return [part for item in accessors.items(value) for part in content_parts(item)]
    fields = accessors.fields(value)
    if "parts" in fields:
        return [part for item in accessors.items(fields["parts"]) if (part := _part(item)) is not None]
    return [content_part(value)] if fields.keys() - {"role"} else []


def _message(value: object) -> Message:
    fields = accessors.fields(value)
    parts = content_parts(value)
    role = accessors.text(fields.get("role")) or "user"
    role = _ROLES.get(role, role)
    if role == "user" and parts and all(part["type"] == "tool_call_response" for part in parts):
        role = "tool"
    message: Message = {"role": role, "parts": parts}
    return (
        message
        if "parts" not in fields or fields.keys() <= _MESSAGE_FIELDS
        else add_rest(message, fields, _MESSAGE_FIELDS)
    )


_MESSAGE_FIELDS: Final = frozenset({"role", "parts"})


def content_part(value: object) -> MessagePart:
    """Return one part."""
    return _part(value) or text_part("")


def _part(value: object) -> MessagePart | None:
    """Return one part; None if it has nothing but the signature of the thoughts before it."""
    if isinstance(value, str):
        return text_part(value)
    fields = accessors.fields(value)
    # Most parts have one field.
    given = named(fields) if len(fields) > 1 else fields
    for given_name, item in given.items():
        name = given_name if len(given) > 1 else _snake(given_name)
        read = _KINDS.get(name)
        part = None if read is None else read(item, given)
        if part is not None:
            if len(given) == 1:
                return part
            if item == "" and "thought_signature" in given and given.keys() <= _TEXT_FIELDS:
                return None
            return add_rest(part, given, _OPAQUE | {name})
    given = named(fields)
    kind = next((name for name in given if name not in _OPAQUE), "unknown")
    return unknown_part(kind, {name: item for name, item in given.items() if name not in _OPAQUE})


def _text(item: Any, part: Fields) -> MessagePart | None:  # noqa: ANN401 - wire JSON; the table\'s signature
    if not isinstance(item, str):
        return None
    return reasoning_part(item) if part.get("thought") is True else text_part(item)


def _inline_data(item: Any, part: Fields) -> MessagePart | None:  # noqa: ANN401, ARG001 - wire JSON; the table\'s signature
    blob = named(item)
    data, mime_type = blob.get("data"), accessors.text(blob.get("mime_type"))
    if isinstance(data, bytes):
        # google-genai's own object.
        data = base64.b64encode(data).decode()
    if not isinstance(data, str):
        return None
    converted = media_part(modality(mime_type), data=data, mime_type=mime_type)
    return add_rest(converted, blob, {"data", "mime_type"})


def _file_data(item: Any, part: Fields) -> MessagePart | None:  # noqa: ANN401, ARG001 - wire JSON; the table\'s signature
    file = named(item)
    mime_type = accessors.text(file.get("mime_type"))
    uri = accessors.text(file.get("file_uri"))
    if uri is None:
        return None
    return add_rest(media_part(modality(mime_type), url=uri, mime_type=mime_type), file, {"file_uri", "mime_type"})


def _function_call(item: Any, part: Fields) -> MessagePart | None:  # noqa: ANN401, ARG001 - wire JSON; the table\'s signature
    if not accessors.fields(item) and item != {}:
        return None
    fields = named(item)
    arguments = fields.get("args")
    if arguments is None and accessors.items(fields.get("partial_args")):
        arguments = _joined_arguments(accessors.items(fields["partial_args"]))
    converted = tool_call_part(accessors.text(fields.get("id")), accessors.text(fields.get("name")), arguments)
    return converted if fields.keys() <= _CALL_FIELDS else add_rest(converted, fields, _CALL_FIELDS)


_RESPONSE_FIELDS: Final = frozenset({"id", "name", "response", "parts"})
_CALL_FIELDS: Final = frozenset({"id", "name", "args", "partial_args", "will_continue"})


def _joined_arguments(pieces: list[Any] | tuple[Any, ...]) -> dict[str, Any]:
    """Return the arguments that arrived as values by JSON path (``$.place.city``); texts of one path are joined."""
    joined: dict[str, Any] = {}
    for piece in map(named, pieces):
        path = (accessors.text(piece.get("json_path")) or "").removeprefix("$").removeprefix(".")
        value = next((piece[name] for name in _ARGUMENT_VALUES if name in piece), None)
        known = joined.get(path)
        joined[path] = known + value if isinstance(known, str) and isinstance(value, str) else value
    arguments: dict[str, Any] = {}
    for path, value in joined.items():
        _place(arguments, path, value)
    return arguments


def _place(arguments: dict[str, Any], path: str, value: object) -> None:
    name, _, rest = path.partition(".")
    inner: Any = arguments.setdefault(name, {}) if rest else None
    if isinstance(inner, dict):
        _place(cast("dict[str, Any]", inner), rest, value)
    else:
        # Also a path through a text or a number, which keeps its full name.
        arguments[path] = value


_ARGUMENT_VALUES: Final = ("string_value", "number_value", "bool_value")


def _function_response(item: Any, part: Fields) -> MessagePart | None:  # noqa: ANN401, ARG001 - wire JSON; the table\'s signature
    fields = named(item)
    if not fields:
        return None
    converted = tool_result_part(accessors.text(fields.get("id")), fields.get("response"))
    if media := accessors.items(fields.get("parts")):
        converted["parts"] = [content_part(one) for one in media]
    if "name" in fields:
        converted["name"] = fields["name"]
    return converted if fields.keys() <= _RESPONSE_FIELDS else add_rest(converted, fields, _RESPONSE_FIELDS)


def _executable_code(item: Any, part: Fields) -> MessagePart | None:  # noqa: ANN401, ARG001 - wire JSON; the table\'s signature
    return _server_call(_CODE, named(item))


def _tool_call(item: Any, part: Fields) -> MessagePart | None:  # noqa: ANN401, ARG001 - wire JSON; the table\'s signature
    fields = named(item)
    return _server_call(accessors.text(fields.get("tool_type")) or "tool", fields)


def _server_call(name: str, fields: dict[str, Any]) -> MessagePart:
    call = {**_json(fields), "type": name}
    return generic_part("server_tool_call", id=accessors.text(fields.get("id")), name=name, server_tool_call=call)


def _code_execution_result(item: Any, part: Fields) -> MessagePart | None:  # noqa: ANN401, ARG001 - wire JSON; the table\'s signature
    return _server_response(_CODE, named(item))


def _tool_response(item: Any, part: Fields) -> MessagePart | None:  # noqa: ANN401, ARG001 - wire JSON; the table\'s signature
    fields = named(item)
    return _server_response(accessors.text(fields.get("tool_type")) or "tool", fields)


def _server_response(name: str, fields: dict[str, Any]) -> MessagePart:
    response = {**_json(fields), "type": name}
    call_id = accessors.text(fields.get("id"))
    return generic_part("server_tool_call_response", id=call_id, server_tool_call_response=response)


def _json(fields: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = to_json_data({name: value for name, value in fields.items() if name not in _SERVER_FIELDS})
    return kept


_SERVER_FIELDS: Final = frozenset({"id", "tool_type"})
_KINDS: Final[Mapping[str, Callable[[Any, Fields], MessagePart | None]]] = {
    "text": _text,
    "inline_data": _inline_data,
    "file_data": _file_data,
    "function_call": _function_call,
    "function_response": _function_response,
    "executable_code": _executable_code,
    "code_execution_result": _code_execution_result,
    "tool_call": _tool_call,
    "tool_response": _tool_response,
}


def tool_definitions(value: object) -> list[dict[str, Any]]:
    """Return the functions and the tools of the provider (``google_search``) that ``tools`` declares."""
    return [definition for tool in accessors.items(value) for definition in _tool(tool)]


def _tool(value: object) -> list[dict[str, Any]]:
    if callable(value) and not isinstance(value, type):
        # A Python function given to a decorated function; google-genai makes a declaration of it.
        return [{"type": "function", "name": getattr(value, "__name__", "")}]
    found: list[dict[str, Any]] = []
    for name, item in named(value).items():
        if name == "function_declarations":
            found += [_function(declaration) for declaration in accessors.items(item)]
        else:
            kept = to_json_data(item)
            found.append({**(kept if isinstance(kept, dict) else {"value": kept}), "type": name, "name": name})
    return found


def _function(value: object) -> dict[str, Any]:
    fields = named(value)
    parameters = fields.pop("parameters_json_schema", None)
    definition: dict[str, Any] = {"type": "function", **fields, "name": accessors.text(fields.get("name")) or ""}
    if parameters is not None:
        definition["parameters"] = parameters
    return definition
