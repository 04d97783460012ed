"""Test helpers for dialects: recordings, streams split in other ways, and the message schemas."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
from hypothesis import strategies as st

from spancast.dialects.protocol import Dialect
from spancast.model import json_codec
from spancast.model.call import Request, Response

RECORDINGS = Path(__file__).parents[1] / "recordings"

Json = dict[str, Any]


def recordings(dialect: str) -> dict[str, Json]:
    """Return every recording of ``dialect`` by its case name."""
    return {
        path.name.removesuffix(".json"): json.loads(path.read_text()) for path in (RECORDINGS / dialect).glob("*.json")
    }


def read_stream(dialect: Dialect, events: list[Any], *, content: bool = True) -> Response:
    """Read ``events`` as one streamed answer."""
    stream = dialect.new_stream(content=content)
    for event in events:
        stream.feed(event)
    read = stream.result()
    assert stream.result() == read
    return read


def resplit(
    events: list[Json], field_of: Callable[[Json], tuple[Json, str] | None], draw: Callable[..., Any]
) -> list[Json]:
    """Return ``events`` with adjacent deltas of one field joined, then split at drawn points.

    ``field_of(event)`` returns the object and the key that hold an event's text, or None.
    """
    found: list[Json] = []
    for event in _joined(events, field_of):
        location = field_of(event)
        if location is None:
            found.append(event)
            continue
        text = location[0][location[1]]
        points = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
        for start, end in zip([0, *points], [*points, len(text)], strict=True):
            piece = json.loads(json.dumps(event))
            target, key = field_of(piece)
            target[key] = text[start:end]
            found.append(piece)
    return found


def _joined(events: list[Json], field_of: Callable[[Json], tuple[Json, str] | None]) -> Iterator[Json]:
    last: Json | None = None
    for original in events:
        event = json.loads(json.dumps(original))
        location = field_of(event)
        if last is not None and location is not None and _place(last, field_of) == _place(event, field_of):
            target, key = field_of(last)
            target[key] += location[0][location[1]]
            continue
        if last is not None:
            yield last
        last = event
    if last is not None:
        yield last


def _place(event: Json, field_of: Callable[[Json], tuple[Json, str] | None]) -> Json | None:
    copied = json.loads(json.dumps(event))
    location = field_of(copied)
    if location is None:
        return None
    location[0][location[1]] = ""
    return {key: value for key, value in copied.items() if key not in ("sequence_number", "obfuscation")}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


_MISSING = object()


def mutate(value: Any, draw: Callable[..., Any]) -> Any:
    """Return a copy of a JSON value in which a few nodes are replaced by random ones or missing.

    Drawn once for the whole value: hypothesis takes longer for a draw at each node than the test for the rest.
    """
    nodes = st.integers(0, _size(value) - 1)
    changes = draw(st.dictionaries(nodes, json_values | st.just(_MISSING), max_size=8))
    changed = _changed(value, changes, itertools.count())
    return None if changed is _MISSING else changed


def _size(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(_size(item) for item in inner)


def _changed(value: Any, changes: dict[int, Any], number: Iterator[int]) -> Any:
    """Return ``value`` with the nodes replaced whose number in depth-first order is in ``changes``."""
    own = next(number)
    if isinstance(value, dict):
        result = {key: _changed(item, changes, number) for key, item in value.items()}
        value = {key: item for key, item in result.items() if item is not _MISSING}
    elif isinstance(value, list):
        value = [item for item in (_changed(one, changes, number) for one in value) if item is not _MISSING]
    return changes.get(own, value)


@functools.cache
def _validator(schema: str, part: str = "") -> Any:
    read = json.loads((RECORDINGS / "schemas" / "gen_ai_messages.json").read_text())[schema]
    wanted = {"$ref": f"#/$defs/{part}", "$defs": read["$defs"]} if part else read
    return jsonschema.Draft202012Validator(wanted)


_PARTS = {
    "text": "TextPart",
    "reasoning": "ReasoningPart",
    "tool_call": "ToolCallRequestPart",
    "tool_call_response": "ToolCallResponsePart",
    "server_tool_call": "ServerToolCallPart",
    "server_tool_call_response": "ServerToolCallResponsePart",
    "uri": "UriPart",
    "file": "FilePart",
    "blob": "BlobPart",
    "compaction": "CompactionPart",
}


def check_response(response: Response) -> None:
    """Assert that the output messages are valid, each part by the schema of its type."""
    _check_messages(response.messages, "gen-ai-output-messages.json")


def check_request(request: Request) -> None:
    """Assert that messages, instructions and tools are valid."""
    _check_messages(request.messages, "gen-ai-input-messages.json")
    _validator("gen-ai-system-instructions.json").validate(request.system_instructions)
    _validator("gen-ai-tool-definitions.json").validate(request.tools)


def _check_messages(messages: list[Any], schema: str) -> None:
    _validator(schema).validate(messages)
    for message in messages:
        for part in message["parts"]:
            claimed = _PARTS.get(part["type"])
            if claimed is not None:
                # By the schema's anyOf, a malformed part is valid as a generic one.
                _validator(schema, claimed).validate(part)


def comparable(response: Response) -> Response:
    """Return ``response`` with its JSON attributes decoded: SDK objects have another order of keys."""
    decoded: Any = {
        name: json_codec.decode(value) or value if isinstance(value, str) and value[:1] in ("[", "{") else value
        for name, value in response.attributes.items()
    }
    return dataclasses.replace(response, attributes=decoded)


_NAMES = frozenset({"type", "role", "id", "name", "finish_reason"})


def texts_of(value: Any) -> set[str]:
    """Return every text of a message list that is too long to be a name."""
    if isinstance(value, dict):
        return {text for key, item in value.items() if key not in _NAMES for text in texts_of(item)}
    if isinstance(value, list):
        return {text for item in value for text in texts_of(item)}
    return {value} if isinstance(value, str) and len(value) > 12 else set()
