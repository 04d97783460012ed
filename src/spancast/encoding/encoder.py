"""The encoder of a destination: redaction, GenAI parent, convention, size limits, bytes, in this order.

Destinations with equal encoders share one encoded batch.
"""

from __future__ import annotations

import functools
import gzip as gzip_module
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from spancast.diagnostics import never_raise
from spancast.encoding.conventions.registry import convention_of
from spancast.encoding.otlp import json_form
from spancast.encoding.otlp.encode import request_bytes, size_bound, span_bytes
from spancast.encoding.protocol import Encoding, Payload
from spancast.encoding.redaction import NO_REDACTION, Redaction, without_group_texts
from spancast.encoding.span_data import ResourceData, SpanData, read_record
from spancast.encoding.truncation import size_steps, truncate_values
from spancast.model import semconv
from spancast.model.span_record import SpanRecord

DEFAULT_MAX_ATTRIBUTE_BYTES: Final = 10_000_000
"""OpenRouter Broadcast's own limit."""
DEFAULT_MAX_SPAN_BYTES: Final = 16 << 20
EXPANSION: Final = 16
"""The most bytes of an attribute per byte of its record: a convention makes it of texts of the record, at most as JSON
in JSON (``tests/encoding/test_conventions.py``)."""
GZIP_LEVEL: Final = 1
"""For messages of 1.5 kB: 16 % more bytes than level 6, in two fifths of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEncoder:
    """Redaction, convention and limits of one destination.

    ``only_genai``: the destination gets GenAI spans only, so the parent of a span is its nearest GenAI ancestor.
    ``group_texts``: False if the destination gets some calls of a trace only: the texts of a group may be of others.
    ``resource``: attributes added to every resource, such as a vendor's project name.
    """

    redaction: Redaction = NO_REDACTION
    convention: str = "gen_ai"
    only_genai: bool = False
    group_texts: bool = True
    max_attribute_bytes: int = DEFAULT_MAX_ATTRIBUTE_BYTES
    max_span_bytes: int = DEFAULT_MAX_SPAN_BYTES
    resource: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def cache_key(self) -> str:
        """Return a string that is equal for equal encoders."""
        limits = (self.max_attribute_bytes, self.max_span_bytes)
        # ``repr`` quotes each text. Without quotes two encoders could have one key, and share payloads.
        return repr(
            (
                self.convention,
                self.redaction.key,
                self.only_genai,
                self.group_texts,
                limits,
                sorted(self.resource.items()),
            )
        )

    def payload(self, records: Sequence[SpanRecord]) -> Payload:
        """Return the (lazily encoded) payload of ``records``."""
        return EncodedBatch(self, records)

    def spans(self, records: Sequence[SpanRecord], max_span_bytes: int | None = None) -> list[SpanData]:
        """Return the spans of ``records`` after all steps, each truncated to ``max_span_bytes``."""
        limit = min(max_span_bytes or self.max_span_bytes, self.max_span_bytes)
        map_span = _safe_mapper(self.convention)
        spans = [
            self._limited(self._transform(read_record(record), map_span), len(record.body), limit) for record in records
        ]
        return self._with_resource(spans) if self.resource else spans

    def _transform(self, span: SpanData, map_span: Callable[[SpanData], SpanData | None] | None) -> SpanData:
        if self.redaction:
            span = self.redaction.apply(span)
        if not self.group_texts:
            span = without_group_texts(span)
        if self.only_genai and span.genai_parent is not None:
            attributes = {**span.attributes, semconv.PARENT_SPAN_ID: span.parent_span_id}
            span = replace(span, parent_span_id=span.genai_parent, attributes=attributes)
        if map_span is not None:
            # If a convention fails on an unusual span, the span is sent in the canonical convention.
            span = map_span(span) or span
        return span

    def _limited(self, span: SpanData, record_bytes: int, limit: int) -> SpanData:
        most = min(limit, self.max_attribute_bytes)
        # A mask may write a long text for a character. Otherwise a small record needs no look at each attribute.
        if not self.redaction and EXPANSION * record_bytes * (len(span.attributes) + 1) <= most:
            return span
        return span if size_bound(span) <= most else self._truncate(span, limit)

    def _truncate(self, span: SpanData, limit: int) -> SpanData:
        size = len(span_bytes(span))
        if size > self.max_attribute_bytes:
            span = truncate_values(span, self.max_attribute_bytes)
            size = len(span_bytes(span))
        short = span
        for step in size_steps(span, size - limit) if size > limit else ():
            short = truncate_values(span, step)
            if len(span_bytes(short)) <= limit:
                break
        return short

    def _with_resource(self, spans: Sequence[SpanData]) -> list[SpanData]:
        resources: dict[int, ResourceData] = {}
        transformed: list[SpanData] = []
        for span in spans:
            given = span.resource
            resource = resources.get(id(given))
            if resource is None:
                attributes = {**given.attributes, **self.resource}
                resource = resources[id(given)] = ResourceData(attributes, given.schema_url)
            transformed.append(replace(span, resource=resource))
        return transformed


@functools.cache
def _safe_mapper(convention: str) -> Callable[[SpanData], SpanData | None] | None:
    map_span = convention_of(convention)
    return map_span and never_raise(map_span)


class EncodedBatch:
    """A batch of one encoder. Each form is encoded at first use and cached; safe for threads."""

    def __init__(self, encoder: SpanEncoder, records: Sequence[SpanRecord], max_span_bytes: int | None = None) -> None:
        self._encoder = encoder
        self._records = records
        self._record_bytes = sum([record.size_bytes for record in records])
        self._max_span_bytes = max_span_bytes
        self._lock = threading.RLock()
        self._spans: list[SpanData] | None = None
        self._forms: dict[tuple[Encoding, bool], bytes] = {}

    @property
    def spans(self) -> Sequence[SpanData]:
        """Return the spans, oldest first."""
        with self._lock:
            if self._spans is None:
                self._spans = self._encoder.spans(self._records, self._max_span_bytes)
            return self._spans

    @property
    def protobuf(self) -> bytes:
        """Return an OTLP ``ExportTraceServiceRequest`` in protobuf."""
        return self.body("protobuf", gzip=False)

    @property
    def json(self) -> bytes:
        """Return the same in OTLP/JSON."""
        return self.body("json", gzip=False)

    @property
    def held_bytes(self) -> int:
        """Return the bytes of the records and the forms; decoded spans count as much as their records."""
        # Without the lock, which is held while a form is encoded.
        made = sum(map(len, list(self._forms.values())))
        return self._record_bytes * (1 if self._spans is None else 2) + made

    def body(self, encoding: Encoding, *, gzip: bool) -> bytes:
        """Return the request as ``encoding``, compressed or not."""
        with self._lock:
            form = self._forms.get((encoding, gzip))
            if form is None:
                form = self._encode(encoding, gzip=gzip)
                self._forms[encoding, gzip] = form
            return form

    def _encode(self, encoding: Encoding, *, gzip: bool) -> bytes:
        if gzip:
            return gzip_module.compress(self.body(encoding, gzip=False), GZIP_LEVEL, mtime=0)
        return json_form.request_json(self.spans) if encoding == "json" else request_bytes(self.spans)

    def truncated(self, max_span_bytes: int) -> Payload:
        """Return the same spans, each truncated to ``max_span_bytes``."""
        return EncodedBatch(self._encoder, self._records, max_span_bytes)
