"""PostHog's own batches of events. Each event has a UUID that follows from its span.

Source: PostHog's documentation of AI events and of ``/batch/``, its Python SDK. PostHog merges events with the same
UUID, name, person and time, so that a batch that is sent again is not counted twice; its OTLP endpoint gives every span
a new UUID. As that endpoint does, a span without a parent is a ``$ai_trace``. The SDK (7.91) compresses with gzip.
"""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Sequence
from typing import Any, Final

from spancast.destinations.http import HttpSender, sender_of
from spancast.destinations.otlp import connection_test_span
from spancast.destinations.partial_delivery import PartialDelivery, Row, rows_of
from spancast.destinations.protocol import Delivered, Encoder, Failure, Outcome, Payload
from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.conventions.posthog import properties
from spancast.encoding.encoder import GZIP_LEVEL
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv

_PATH: Final = "/batch/"
_JSON: Final = "application/json"
_MAX_BYTES: Final = 8_000_000
_MAX_EVENTS: Final = 1024
_EVENTS: Final = {"llm": "$ai_generation", "embedding": "$ai_embedding"}


def event(span: SpanData) -> dict[str, Any]:
    """Return ``span`` as an event."""
    session = span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    user = span.text(semconv.USER_ID)
    ids = facts.given(
        **{
            "$ai_trace_id": span.trace_id,
            "$ai_span_id": span.span_id,
            "$ai_parent_id": span.parent_span_id or None,
            "$ai_span_name": span.name,
            "$ai_latency": span.duration_ms / 1000,
            "$ai_is_error": span.status == "error",
            # Without a user, no person is created for the session.
            "$process_person_profile": None if user else False,
            "$lib": "spancast",
        }
    )
    work = facts.work(span)
    name = _EVENTS.get(work) or ("$ai_span" if span.parent_span_id else "$ai_trace")
    return {
        "event": name,
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"spancast:{span.trace_id}{span.span_id}")),
        "distinct_id": user or session or span.trace_id,
        "timestamp": genai_fields.iso_time(span.start_ns),
        "properties": {**facts.written(properties(span)), **(_call(span) if work in _EVENTS else {}), **ids},
    }


def _call(span: SpanData) -> dict[str, Any]:
    tokens, conversation = facts.usage(span), genai_fields.conversation(span)
    return facts.given(
        **{
            "$ai_model": facts.model(span),
            "$ai_provider": span.text(semconv.PROVIDER_NAME),
            "$ai_input": None if conversation is None else conversation["messages"],
            "$ai_output_choices": genai_fields.answers(span),
            "$ai_input_tokens": tokens.input,
            "$ai_output_tokens": tokens.output,
            "$ai_temperature": span.number(semconv.REQUEST_TEMPERATURE),
            "$ai_max_tokens": span.count(semconv.REQUEST_MAX_TOKENS),
            "$ai_model_parameters": genai_fields.model_parameters(span) or None,
        }
    )


class PostHogDestination:
    """Posts each batch as events."""

    def __init__(self, encoder: Encoder, sender: HttpSender, api_key: str, *, compress: bool) -> None:
        self.encoder = encoder
        self._sender = sender
        self._compress = compress
        self._start = b'{"api_key":%s,"batch":[' % json_codec.encode(api_key).encode()
        self._delivery = PartialDelivery("PostHog", max_rows=_MAX_EVENTS, max_bytes=_MAX_BYTES, row_overhead=1)

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Send an event for each span of ``payload``."""
        rows = rows_of(payload.spans, (json_codec.encode(event(span)) for span in payload.spans))
        return self._delivery.deliver(rows, self._send, timeout_s)

    def test_connection(self, timeout_s: float) -> Outcome:
        """Send one event; PostHog checks only the form of the token."""
        span = connection_test_span()
        [row] = rows_of([span], [json_codec.encode(event(span))])
        outcome = self._send([row], timeout_s)
        return Delivered(message="PostHog does not check the token") if isinstance(outcome, Delivered) else outcome

    def close(self) -> None:
        """Close the connections."""
        self._delivery.close()
        self._sender.close()

    def _send(self, rows: Sequence[Row], timeout_s: float) -> Delivered | Failure:
        body = self._start + b",".join(row.body for row in rows) + b"]}"
        sent = gzip.compress(body, GZIP_LEVEL, mtime=0) if self._compress else body
        return self._sender.send(sent, _JSON, gzip=self._compress, timeout_s=timeout_s).outcome


def create(config: Any, encoder: Encoder) -> PostHogDestination:  # noqa: ANN401 - a model made of the vendor's row
    """Return the destination of ``config``, whose fields are those of the row ``posthog`` in ``otlp_vendors``.

    Raises:
        ConfigError: A certificate or a proxy cannot be used.
    """
    key = config.api_key.get_secret_value()
    sender = sender_of(config, config.endpoint.rstrip("/") + _PATH, product="PostHog", secrets=[key])
    return PostHogDestination(encoder, sender, key, compress=config.compression == "gzip")
