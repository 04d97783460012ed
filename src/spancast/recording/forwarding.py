"""Trace keys in the request body: for OpenRouter, whose own Broadcast then joins our trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from opentelemetry.trace import SpanContext

from spancast.model import json_text
from spancast.model.trace_keys import TraceKeys

Forward: TypeAlias = Literal["auto", "always", "never"]


def forwarded(body: Mapping[str, Any], keys: TraceKeys, ids: SpanContext | None) -> dict[str, Any]:
    """Return the fields to send for ``keys`` with a request ``body``: ``trace`` with our ids, ``session_id``, ``user``.

    ``ids`` are those of the call's span, None where it has none.
    """
    raw: Any = body.get("trace")
    trace = {**_of_keys(keys), **_raw_fields(raw)}
    fields: dict[str, Any] = {}
    session = body.get("session_id")
    if session is not None or keys.session_id:
        fields["session_id"] = session if session is not None else keys.session_id
    if body.get("user") is None and keys.user:
        fields["user"] = keys.user
    if (trace or fields) and ids is not None and ids.is_valid and ids.trace_flags.sampled:
        trace.setdefault("trace_id", f"{ids.trace_id:032x}")
        trace["parent_span_id"] = f"{ids.span_id:016x}"
    if raw is not None and not json_text.is_mapping(raw) and not hasattr(raw, "__pydantic_fields_set__"):
        # Not ours to repair: the provider answers as it would without us.
        fields["trace"] = raw
    elif trace:
        fields["trace"] = trace
    return fields


def _of_keys(keys: TraceKeys) -> dict[str, Any]:
    named = {name: getattr(keys, name) for name in ("trace_id", "trace_name", "span_name", "generation_name")}
    return {**keys.custom, **{name: value for name, value in named.items() if value}}


def _raw_fields(trace: object) -> dict[str, Any]:
    if json_text.is_mapping(trace):
        return dict(trace)
    if not hasattr(trace, "__pydantic_fields_set__"):
        return {}
    return {**vars(trace), **(getattr(trace, "__pydantic_extra__", None) or {})}
