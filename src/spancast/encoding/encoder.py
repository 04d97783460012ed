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

from spancast.destinations.config import DestinationConfig, Mask
from spancast.destinations.protocol import Encoding, Payload
from spancast.diagnostics import never_raise
from spancast.encoding.conventions.registry import convention_of
from spancast.encoding.otlp import json_form
from spancast.encoding.otlp.encode import request_bytes, size_bound, span_bytes
from spancast.encoding.redaction import NO_REDACTION, Redaction, function_mask, pattern_mask
from spancast.encoding.span_data import ResourceData, SpanData, read_record
from spancast.encoding.truncation import size_steps, truncate_values
from spancast.model import semconv
from spancast.model.span_record import SpanRecord

DEFAULT_MAX_ATTRIBUTE_BYTES: Final = 10_000_000
"""OpenRouter Broadcast's own limit."""
DEFAULT_MAX_SPAN_BYTES: Final = 16 << 20
_GZIP_LEVEL: Final = 1
"""Messages of 1.5 kB: 16 % more bytes than level 6, for two fifths of its time (docs/delivery.md)."""


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

    def spans(self, records: Sequence[SpanRecord], max_span_bytes: int | None = None) -> list[SpanData]:
        """Return the spans of ``records`` in this view, none over ``max_span_bytes``."""
        limit = min(max_span_bytes or self.max_span_bytes, self.max_span_bytes)
        rename = _safe_convention(self.convention)
        spans = [self._changed(read_record(record), limit, rename) for record in records]
        return self._with_resource(spans) if self.resource else spans

    def _changed(self, span: SpanData, limit: int, rename: Callable[[SpanData], SpanData | None] | None) -> SpanData:
        if self.redaction:
            span = self.redaction.apply(span)
        if self.only_genai and span.genai_parent is not None:
            attributes = {**span.attributes, semconv.PARENT_SPAN_ID: span.parent_span_id}
            span = replace(span, parent_span_id=span.genai_parent, attributes=attributes)
        if rename is not None:
            # A convention that fails on an odd span leaves it as it is: redacted, whole, and sent.
            span = rename(span) or span
        return span if size_bound(span) <= min(limit, self.max_attribute_bytes) else self._shortened(span, limit)

    def _shortened(self, span: SpanData, limit: int) -> SpanData:
        size = len(span_bytes(span))
        if size > self.max_attribute_bytes:
            span = truncate_values(span, self.max_attribute_bytes)
            size = len(span_bytes(span))
        short = span
        for step in size_steps(span) if size > limit else ():
            short = truncate_values(span, step)
            if len(span_bytes(short)) <= limit:
                break
        return short

    def _with_resource(self, spans: Sequence[SpanData]) -> list[SpanData]:
        resources: dict[int, ResourceData] = {}
        changed: list[SpanData] = []
        for span in spans:
            given = span.resource
            resource = resources.get(id(given))
            if resource is None:
                attributes = {**given.attributes, **self.resource}
                resource = resources[id(given)] = ResourceData(attributes, given.schema_url)
            changed.append(replace(span, resource=resource))
        return changed


@functools.cache
def _safe_convention(convention: str) -> Callable[[SpanData], SpanData | None] | None:
    rename = convention_of(convention)
    return rename and never_raise(rename)


class EncodedBatch:
    """A batch in one view; each form is made at first use and kept, whichever thread asks."""

    def __init__(self, encoder: SpanEncoder, records: Sequence[SpanRecord], max_span_bytes: int | None = None) -> None:
        self._view = encoder
        self._records = records
        self._max_span_bytes = max_span_bytes
        self._lock = threading.RLock()
        self._spans: list[SpanData] | None = None
        self._forms: dict[tuple[Encoding, bool], bytes] = {}

    @property
    def spans(self) -> Sequence[SpanData]:
        """Return the spans, oldest first."""
        with self._lock:
            if self._spans is None:
                self._spans = self._view.spans(self._records, self._max_span_bytes)
            return self._spans

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
        return json_form.request_json(self.spans) if encoding == "json" else request_bytes(self.spans)

    def shortened(self, max_span_bytes: int) -> Payload:
        """Return the same spans, none over ``max_span_bytes``."""
        return EncodedBatch(self._view, self._records, max_span_bytes)


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
