"""Views: what one destination sees of a span, in the words it knows, encoded once for all who see the same.

Order: redaction, the parent where the real one is not sent, the convention, limits of size, bytes.
"""

from __future__ import annotations

import functools
import gzip as gzip_module
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from spancast.destinations.config import DestinationConfig, Mask
from spancast.destinations.protocol import Encoding, Payload
from spancast.diagnostics import never_raise
from spancast.encoding.batch import Batch, batch_of
from spancast.encoding.conventions.registry import convention_of
from spancast.encoding.otlp import json_form
from spancast.encoding.otlp.encode import (
    event_bytes,
    key_value,
    key_values,
    message,
    replaced,
    resource_head,
    status_bytes,
    varint,
)
from spancast.encoding.redaction import NO_REDACTION, Redaction, function_mask, pattern_mask
from spancast.encoding.span_data import SpanData, attributes_of
from spancast.encoding.truncation import size_steps, truncate_values
from spancast.model import semconv
from spancast.model.span_record import SpanRecord

DEFAULT_MAX_ATTRIBUTE_BYTES: Final = 10_000_000
"""OpenRouter Broadcast's own limit."""
DEFAULT_MAX_SPAN_BYTES: Final = 16 << 20
_GZIP_LEVEL: Final = 1
"""Messages of 1.5 kB: 16 % more bytes than level 6, for two fifths of its time (docs/delivery.md)."""
_STATUS_CODES: Final = {"unset": 0, "ok": 1, "error": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEncoder:
    """Redaction times convention times limits.

    ``only_genai``: spans that are none are not sent, so nothing may hang on them. ``resource`` are
    attributes set on every resource, as vendors want a project named there.
    """

    redaction: Redaction = NO_REDACTION
    convention: str = "gen_ai"
    only_genai: bool = False
    max_attribute_bytes: int = DEFAULT_MAX_ATTRIBUTE_BYTES
    max_span_bytes: int = DEFAULT_MAX_SPAN_BYTES
    resource: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def key(self) -> str:
        """Return a text equal for equal views."""
        limits = (self.max_attribute_bytes, self.max_span_bytes)
        # Each text quoted: joined bare, two views could run into one key, and one be sent the other's payload.
        return repr((self.convention, self.redaction.key, self.only_genai, limits, sorted(self.resource.items())))

    def payload(self, records: Sequence[SpanRecord]) -> Payload:
        """Return the (lazily encoded) payload of ``records`` in this view."""
        return EncodedBatch(self, records)

    def body(self, record: SpanRecord, max_span_bytes: int | None = None) -> bytes:
        """Return ``record`` as an encoded ``Span`` of this view."""
        return self.bodies(Batch((record,)), max_span_bytes)[0]

    def bodies(self, batch: Batch, max_span_bytes: int | None = None) -> list[bytes]:
        """Return each record of ``batch`` as an encoded ``Span`` of this view."""
        limit = min(max_span_bytes or self.max_span_bytes, self.max_span_bytes)
        rename = _safe_convention(self.convention)
        if rename is not None or self.redaction:
            return [self._changed(batch, index, limit, rename) for index in range(len(batch))]
        small = min(limit, self.max_attribute_bytes)
        bodies = [record.body for record in batch]
        for index, body in enumerate(bodies):
            if len(body) > small:
                bodies[index] = self._changed(batch, index, limit, None)
            elif self.only_genai and "genai_parent" in batch[index].facts:
                bodies[index] = self._under_llm_parent(batch[index])
        return bodies

    def _changed(
        self, batch: Batch, index: int, limit: int, rename: Callable[[SpanData], SpanData | None] | None
    ) -> bytes:
        fields, span = batch.read(index)
        span = self._placed(self.redaction.apply(span), batch[index])
        if rename is not None:
            # A convention that fails on an odd span leaves it as it is: redacted, whole, and sent.
            span = rename(span) or span
        rest = _with_bare_links(fields.rest) if self.redaction and fields.has_links else fields.rest
        body = _encoded(rest, span)
        if len(body) > self.max_attribute_bytes:
            span = truncate_values(span, self.max_attribute_bytes)
            body = _encoded(rest, span)
        for step in size_steps(span) if len(body) > limit else ():
            body = _encoded(rest, truncate_values(span, step))
            if len(body) <= limit:
                break
        return body

    def _under_llm_parent(self, record: SpanRecord) -> bytes:
        parent = record.facts.get("genai_parent") if self.only_genai else None
        if parent is None:
            return record.body
        told = key_value(semconv.PARENT_SPAN_ID, record.parent_span_id.hex())
        return replaced(record.body, {4: _parent_field(str(parent))}) + message(b"\x4a", told)

    def _placed(self, span: SpanData, record: SpanRecord) -> SpanData:
        parent = record.facts.get("genai_parent") if self.only_genai else None
        if parent is None:
            return span
        attributes = {**span.attributes, semconv.PARENT_SPAN_ID: span.parent_span_id}
        return replace(span, parent_span_id=str(parent), attributes=attributes)

    def head(self, resource: bytes) -> bytes:
        """Return the encoded ``ResourceSpans`` head with this view's resource attributes."""
        if not self.resource:
            return resource
        given = ResourceSpans.FromString(resource)
        return resource_head({**attributes_of(given.resource.attributes), **self.resource}, given.schema_url)


@functools.cache
def _safe_convention(convention: str) -> Callable[[SpanData], SpanData | None] | None:
    rename = convention_of(convention)
    return rename and never_raise(rename)


def _with_bare_links(body: bytes) -> bytes:
    # What a link says is not looked into, so nothing of it is said where something may not be.
    links = list(Span.FromString(body).links)
    if not any(link.attributes for link in links):
        return body
    for link in links:
        del link.attributes[:]
    return replaced(body, {13: b"".join(message(b"\x6a", link.SerializeToString()) for link in links)})


def _parent_field(parent: str) -> bytes:
    return message(b"\x22", bytes.fromhex(parent)) if parent else b""


def _encoded(rest: bytes, span: SpanData) -> bytes:
    name = span.name.encode("utf-8", "replace")
    parts = [rest, _parent_field(span.parent_span_id), b"\x2a", varint(len(name)), name]
    parts.append(key_values(b"\x4a", span.attributes))
    parts += [message(b"\x5a", event_bytes(event.name, event.at_ns, event.attributes)) for event in span.events]
    parts.append(message(b"\x7a", status_bytes(_STATUS_CODES[span.status], span.status_message)))
    return b"".join(parts)


class EncodedBatch:
    """A batch in one view; each form is made at first use and kept, whichever thread asks."""

    def __init__(self, encoder: SpanEncoder, records: Sequence[SpanRecord], max_span_bytes: int | None = None) -> None:
        self._view = encoder
        self.records = records
        self._max_span_bytes = max_span_bytes
        self._lock = threading.RLock()
        self._forms: dict[tuple[Encoding, bool], bytes] = {}

    @property
    def protobuf(self) -> bytes:
        """Return an OTLP ``ExportTraceServiceRequest`` in protobuf."""
        return self.body("protobuf", gzip=False)

    @property
    def json(self) -> bytes:
        """Return the same in OTLP/JSON."""
        return self.body("json", gzip=False)

    def body(self, encoding: Encoding, *, gzip: bool) -> bytes:
        """Return the request as ``encoding``, compressed or not."""
        with self._lock:
            form = self._forms.get((encoding, gzip))
            if form is None:
                form = self._made(encoding, gzip=gzip)
                self._forms[encoding, gzip] = form
            return form

    def _made(self, encoding: Encoding, *, gzip: bool) -> bytes:
        if gzip:
            return gzip_module.compress(self.body(encoding, gzip=False), _GZIP_LEVEL, mtime=0)
        if encoding == "json":
            return json_form.request_json(self.protobuf)
        return self._request()

    def shortened(self, max_span_bytes: int) -> Payload:
        """Return the same spans, none over ``max_span_bytes``."""
        return EncodedBatch(self._view, self.records, max_span_bytes)

    def _request(self) -> bytes:
        groups: dict[bytes, dict[bytes, list[bytes]]] = {}
        batch = batch_of(self.records)
        for record, body in zip(batch, self._view.bodies(batch, self._max_span_bytes), strict=True):
            of_scope = groups.setdefault(record.resource, {}).setdefault(record.scope, [])
            of_scope += (b"\x12", varint(len(body)), body)
        return b"".join([part for resource, scopes in groups.items() for part in self._of_resource(resource, scopes)])

    def _of_resource(self, resource: bytes, scopes: Mapping[bytes, list[bytes]]) -> list[bytes]:
        # Joined once, at the end: a batch is 2 MiB.
        parts = [self._view.head(resource)]
        for scope, spans in scopes.items():
            parts += (b"\x12", varint(len(scope) + sum(map(len, spans))), scope, *spans)
        return [b"\x0a", varint(sum(map(len, parts))), *parts]


def redaction_of(config: DestinationConfig) -> Redaction:
    """Return what ``config`` says may not be seen."""
    return _redaction(config.privacy_mode, config.mask)


def _redaction(is_private: bool, given: Sequence[Mask]) -> Redaction:
    masks = tuple(
        pattern_mask(mask.pattern, mask.replacement) if mask.pattern is not None else function_mask(_callable(mask))
        for mask in given
    )
    named = [(mask.pattern, mask.replacement) if mask.pattern is not None else id(mask.function) for mask in given]
    return Redaction(is_private, masks, repr((is_private, named)))


def shared_redaction(configs: Sequence[DestinationConfig]) -> Redaction:
    """Return what none of ``configs`` may see: it is taken out before anything is kept on disk.

    Privacy mode where all have it, and the masks that all begin with. A mask function sees its own
    result again in the view.
    """
    if not configs:
        return NO_REDACTION
    shared = configs[0].mask
    for config in configs[1:]:
        same = next((i for i, (a, b) in enumerate(zip(shared, config.mask, strict=False)) if a != b), None)
        shared = shared[: min(len(shared), len(config.mask)) if same is None else same]
    is_private = all(config.privacy_mode for config in configs)
    return _redaction(is_private, shared)


def _callable(mask: Any) -> Any:  # noqa: ANN401 - pydantic's model has seen to it
    return mask.function


def encoder_for(config: DestinationConfig, convention: str, resource: Mapping[str, str] | None = None) -> SpanEncoder:
    """Return the view of the destination that ``config`` describes, whose own convention is ``convention``."""
    return SpanEncoder(
        redaction=redaction_of(config),
        convention=config.convention or convention,
        only_genai=config.spans == "genai",
        max_attribute_bytes=config.max_attribute_bytes or DEFAULT_MAX_ATTRIBUTE_BYTES,
        max_span_bytes=config.max_span_bytes or DEFAULT_MAX_SPAN_BYTES,
        resource=dict(resource or {}),
    )
