"""Redaction: privacy mode and masks, applied to a span before all other steps.

Privacy mode keeps only attributes known to have no content, of any instrumentation. It removes error texts too, because
they may quote content. Masks replace patterns in every string. If a mask fails, the whole value is replaced, and the
span is still sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, cast

from spancast.diagnostics import counters, never_raise, warn_once
from spancast.encoding.safe_regex import Pattern
from spancast.encoding.span_data import EventData, SpanData
from spancast.model import json_codec, privacy, semconv
from spancast.model.json_codec import is_list, is_mapping

MASKING_FAILED: Final = "[masking failed]"
TextMask: TypeAlias = Callable[[str], "str | None"]
"""Returns the text to send, or None if it failed."""

_NO_ATTRIBUTES: Final[Mapping[str, Any]] = {}
_STRUCTURAL: Final = frozenset(
    {
        semconv.SESSION_ID, semconv.CONVERSATION_ID, semconv.RESPONSE_ID, semconv.OPERATION_NAME,
        semconv.PROVIDER_NAME, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL, semconv.RAW_TRACE_ID,
        semconv.RAW_PARENT_SPAN_ID, semconv.ERROR_TYPE, semconv.RESPONSE_FINISH_REASONS, semconv.SERVER_ADDRESS,
    }
)  # fmt: skip
"""Attributes that identify a trace or a session are not masked: a pattern for digits would split sessions."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """Privacy mode and masks; ``key`` is equal for equal redactions."""

    is_private: bool = False
    masks: tuple[TextMask, ...] = ()
    key: str = ""

    def __bool__(self) -> bool:
        return self.is_private or bool(self.masks)

    def apply(self, span: SpanData) -> SpanData:
        """Return ``span`` redacted; links lose all their attributes."""
        if span.links:
            span = replace(span, links=tuple([replace(link, attributes=_NO_ATTRIBUTES) for link in span.links]))
        if self.is_private:
            span = without_content(span)
        return _mask_span(span, self.masks) if self.masks else span


NO_REDACTION: Final = Redaction()


def without_content(span: SpanData) -> SpanData:
    """Return ``span`` in privacy mode: only attributes known to have no content (``model/privacy.py``)."""
    return span.with_attributes(
        privacy.without_content(span.attributes),
        events=tuple([_without_content(event) for event in span.events]),
        status_message="",
    )


def without_group_texts(span: SpanData) -> SpanData:
    """Return ``span`` without the texts of calls if it is a group span (``export/group_content.py``)."""
    if span.first(semconv.OPERATION_NAME) != semconv.INVOKE_WORKFLOW or span.scope.name != semconv.SCOPE_NAME:
        return span
    texts = (semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES)
    return span.with_attributes({name: value for name, value in span.attributes.items() if name not in texts})


def _without_content(event: EventData) -> EventData:
    return replace(event, attributes=privacy.event_without_content(event.name, event.attributes))


def pattern_mask(pattern: str, replacement: str) -> TextMask:
    """Return a mask that replaces each match of ``pattern`` (a regular expression) with ``replacement``."""
    compiled = Pattern(pattern)
    return lambda text: compiled.replace(text, replacement)


def function_mask(function: Callable[[str], Any]) -> TextMask:
    """Return a mask that calls the user's ``function``; its result is converted to ``str``."""

    @never_raise
    def masked(text: str) -> str:
        return str(function(text))

    return masked


class _MaskFailedError(Exception):
    """A mask failed for a part of a value."""


def _mask_span(span: SpanData, masks: Sequence[TextMask]) -> SpanData:
    return replace(
        span,
        name=_mask_text(span.name, masks),
        attributes=_mask_attributes(span.attributes, masks),
        events=tuple(replace(event, attributes=_mask_attributes(event.attributes, masks)) for event in span.events),
        status_message=_mask_text(span.status_message, masks),
    )


def _mask_attributes(attributes: Mapping[str, Any], masks: Sequence[TextMask]) -> dict[str, Any]:
    return {name: value if name in _STRUCTURAL else _mask_value(value, masks) for name, value in attributes.items()}


def _mask_text(text: str, masks: Sequence[TextMask]) -> str:
    return str(_mask_value(text, masks))


def _mask_value(value: Any, masks: Sequence[TextMask]) -> Any:  # noqa: ANN401 - any attribute value
    try:
        return _mask(value, masks)
    except (_MaskFailedError, RecursionError):
        # The whole value, so that a slow pattern costs one timeout per value and not one per text in it.
        counters.add("redaction_errors")
        warn_once("redaction_errors", "spancast: a mask failed; the whole value is replaced")
        return MASKING_FAILED


def _mask(value: Any, masks: Sequence[TextMask]) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        inner = json_codec.decode(value) if value[:1] in ("[", "{") else None
        # Masks are applied to the strings inside JSON, so that the result is valid JSON.
        return _apply_masks(value, masks) if inner is None else json_codec.encode(_mask_json(inner, masks))
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        masked = _apply_masks(text, masks)
        return value if masked == text else masked
    if is_mapping(value):
        return {key: _mask(item, masks) for key, item in value.items()}
    if is_list(value):
        return [_mask(item, masks) for item in cast("Iterable[Any]", value)]
    return value


def _mask_json(value: Any, masks: Sequence[TextMask]) -> Any:  # noqa: ANN401 - any JSON
    if is_mapping(value):
        # Keys such as `role` are kept, so that messages stay readable; other keys may be data, such as an address.
        return {
            key if key.isidentifier() else _apply_masks(key, masks): _mask_json(item, masks)
            for key, item in value.items()
        }
    if is_list(value):
        return [_mask_json(item, masks) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # A number in the arguments of a tool may be a card number; counts and costs are in other attributes.
        text = str(value)
        masked = _apply_masks(text, masks)
        return value if masked == text else masked
    return _mask(value, masks)


def _apply_masks(text: str, masks: Sequence[TextMask]) -> str:
    for mask in masks:
        if not text:
            break
        masked = mask(text)
        if masked is None:
            raise _MaskFailedError
        # The function of a user may return lone surrogates, which UTF-8 cannot encode.
        text = masked if masked.isascii() else json_codec.well_formed(masked)
    return text
