"""Trace keys in the request body for OpenRouter, whose own Broadcast then joins this trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from opentelemetry.trace import SpanContext

from spancast.model import json_codec
from spancast.model.json_data import is_json_type, json_data, key_text, sendable
from spancast.model.trace_keys import NAMES, TraceKeys

Forward: TypeAlias = Literal["auto", "always", "never"]


def forwarded(body: Mapping[str, Any], keys: TraceKeys, ids: SpanContext | None) -> dict[str, Any]:
    """Return the fields to send for ``keys`` with a request ``body``: ``trace`` with the span's ids, ``session_id``.

    The caller's own values are sent unchanged if JSON can represent them. Otherwise ``user`` and ``metadata`` are
    among the fields too, None if they must be left out. ``ids`` are those of the call's span, None if it has none.
    """
    raw: Any = body.get("trace")
    trace = {**_of_keys(keys), **_of_call(raw)}
    fields: dict[str, Any] = {}
    session = _text(body.get("session_id"), keys.session_id)
    if not json_codec.is_absent(session):
        fields["session_id"] = session
    user, metadata = body.get("user"), body.get("metadata")
    if (sent_user := _text(user, keys.user)) is not user:
        fields["user"] = sent_user
    if (sent_metadata := _metadata(metadata)) is not metadata:
        fields["metadata"] = sent_metadata
    if (trace or fields) and ids is not None and ids.is_valid and ids.trace_flags.sampled:
        trace.setdefault("trace_id", f"{ids.trace_id:032x}")
        trace["parent_span_id"] = f"{ids.span_id:016x}"
    if raw is not None and is_json_type(raw) and not json_codec.is_mapping(raw):
        # An invalid value is not repaired: the provider responds as it would without spancast.
        fields["trace"] = sendable(raw)
    elif trace:
        fields["trace"] = trace
    return fields


def _of_keys(keys: TraceKeys) -> dict[str, Any]:
    named = {name: getattr(keys, name) for name in ("trace_id", "trace_name", "span_name", "generation_name")}
    return {**sendable(keys.custom), **{name: value for name, value in named.items() if value}}


def _of_call(trace: object) -> dict[str, Any]:
    """Return the caller's ``trace``, without standard keys that are not text or JSON; their parsed value is sent."""
    written = _fields(trace).items()
    return json_data({name: value for name, value in written if name not in NAMES or _is_sent(value)})


def _fields(trace: object) -> dict[str, Any]:
    if json_codec.is_mapping(trace):
        return dict(trace)
    if not hasattr(trace, "__pydantic_fields_set__"):
        return {}
    return {**vars(trace), **(getattr(trace, "__pydantic_extra__", None) or {})}


def _text(given: object, read: str | None) -> object:
    """Return the value to send for a text field: ``given`` if JSON can represent it, else its parsed value ``read``."""
    if json_codec.is_absent(given):
        return given if read is None else read
    return sendable(given) if _is_sent(given) else read


def _is_sent(value: object) -> bool:
    """Return whether ``value`` is sent for a text field; other JSON types are sent for the provider to reject."""
    sent = sendable(value)
    return sent is value or (isinstance(value, (str, int)) and isinstance(sent, str))


def _metadata(given: object) -> object:
    """Return the value to send for ``metadata``; values that are not JSON become text, as the API requires."""
    if json_codec.is_absent(given) or hasattr(given, "__pydantic_fields_set__"):
        return given
    if not json_codec.is_mapping(given):
        return sendable(given) if is_json_type(given) else None
    sent: dict[str, Any] = {}
    is_needed = type(given) is not dict
    for key, value in given.items():
        item = sendable(value)
        sent[key_text(key)] = item if item is value else _written(item)
        is_needed |= item is not value or type(key) is not str
    return sent if is_needed else given


def _written(data: Any) -> str:  # noqa: ANN401 - JSON has any shape
    return data if isinstance(data, str) else json_codec.encode(data)
