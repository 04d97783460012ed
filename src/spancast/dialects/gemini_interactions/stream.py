"""Stream reader of interactions: assembles the interaction from its events.

Names of google-genai 1 (``content.delta``, ``interaction.start``) are read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from spancast.dialects import accessors
from spancast.dialects.protocol import StreamReader
from spancast.dialects.sanitize import shallow_copy
from spancast.model import json_codec
from spancast.model.call import Response

_Fields = Mapping[str, Any]
_MEDIA: Final = frozenset({"audio", "document", "image", "video"})


class ResponseReader(Protocol):
    """Reads an interaction."""

    def __call__(self, response: Mapping[str, Any], *, content: bool) -> Response:
        """Return the parsed response."""
        ...


class InteractionStream(StreamReader):
    """A reader of the events of one interaction; without ``content`` it keeps no text."""

    __slots__ = ("_content", "_interaction", "_read", "_steps")

    def __init__(self, read: ResponseReader, *, content: bool) -> None:
        self._read = read
        self._content = content
        self._interaction: dict[str, Any] = {}
        self._steps: dict[int, dict[str, Any]] = {}

    def feed(self, chunk: object) -> None:
        """Process the next event: wire JSON or the SDK's object."""
        event = accessors.fields(chunk)
        kind, _, moment = (accessors.text(event.get("event_type")) or "").partition(".")
        if kind == "interaction":
            self._update(accessors.fields(event.get("interaction")))
            self._update({name: event.get(name) for name in ("status", "usage")})
        elif kind == "error":
            self._interaction["error"] = event.get("error")
        elif kind in ("step", "content"):
            index = event.get("index")
            at = index if isinstance(index, int) else len(self._steps)
            if moment == "start":
                self._steps[at] = shallow_copy(event.get(kind))
            elif moment == "delta":
                self._add(at, accessors.fields(event.get("delta")))
            elif not json_codec.is_absent(event.get("usage")):
                self._interaction["usage"] = event["usage"]
        elif "error" in event and not kind:
            # An error body in place of an event.
            self._interaction["error"] = event["error"]

    def _update(self, fields: _Fields) -> None:
        self._interaction.update({name: value for name, value in fields.items() if not json_codec.is_absent(value)})

    def _add(self, at: int, delta: _Fields) -> None:
        """Add a delta to its step: texts continue texts, lists grow, other fields are set."""
        step = self._steps.setdefault(at, {})
        kind = accessors.text(delta.get("type")) or ""
        if not self._content:
            step.setdefault("type", "function_call" if kind == "arguments_delta" else "model_output")
        elif kind in ("text", "text_annotation_delta", *_MEDIA):
            if step.get("type") == "text":
                # The content itself, in version 1.
                text = (accessors.text(step.get("text")) or "") + (accessors.text(delta.get("text")) or "")
                step.update({**delta, "type": "text", "text": text})
                return
            step.setdefault("type", "model_output")
            step["content"] = _continued(step.get("content"), delta)
        elif kind == "thought_summary":
            step.setdefault("type", "thought")
            step["summary"] = _continued(step.get("summary"), accessors.fields(delta.get("content")))
        elif kind in ("arguments_delta", "arguments"):
            step.setdefault("type", "function_call")
            known = step.get("arguments")
            piece = delta.get("arguments", delta.get("partial_arguments"))
            step["arguments"] = known + piece if isinstance(known, str) and isinstance(piece, str) else piece
        elif kind != "thought_signature":
            fields = {
                name: value for name, value in delta.items() if name != "type" and not json_codec.is_absent(value)
            }
            for name, value in fields.items():
                before: Any = step.get(name)
                step[name] = before + value if type(before) is type(value) in (str, list) else value
            step.setdefault("type", kind)

    def result(self) -> Response:
        """Return the interaction as far as it has arrived."""
        steps = [self._steps[index] for index in sorted(self._steps)]
        response = {**self._interaction, "steps": steps} if steps else self._interaction
        return self._read(response, content=self._content)


def _continued(known: object, delta: _Fields) -> list[Any]:
    """Return contents that are continued by ``delta``: a text, annotations of a text, or another content."""
    contents = [*accessors.items(known)]
    last: _Fields = accessors.fields(contents[-1]) if contents else {}
    kind = delta.get("type")
    if kind == "text_annotation_delta" and last:
        annotations = [*accessors.items(last.get("annotations")), *accessors.items(delta.get("annotations"))]
        return [*contents[:-1], {**last, "annotations": annotations}]
    text = delta.get("text")
    if kind == "text" and last.get("type") == "text" and isinstance(text, str):
        return [*contents[:-1], {**last, **delta, "text": (accessors.text(last.get("text")) or "") + text}]
    return [*contents, dict(delta)]
