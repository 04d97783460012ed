"""What a destination may not see is taken out of a span here, before anything else is done with it.

Privacy mode leaves only what is known to be no content, ours or another instrumentation's; error texts
go as well, because they may quote it. Masks take patterns out of every text. A mask that fails hides the
whole value and never costs the span.
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
"""Returns the text to send, or None where it failed."""

_NO_ATTRIBUTES: Final[Mapping[str, Any]] = {}
_STRUCTURAL: Final = frozenset(
    {
        semconv.SESSION_ID, semconv.CONVERSATION_ID, semconv.RESPONSE_ID, semconv.OPERATION_NAME,
        semconv.PROVIDER_NAME, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL, semconv.RAW_TRACE_ID,
        semconv.RAW_PARENT_SPAN_ID, semconv.ERROR_TYPE, semconv.RESPONSE_FINISH_REASONS, semconv.SERVER_ADDRESS,
    }
)  # fmt: skip
"""What holds a trace together is not masked, lest a pattern for digits cut a session in two."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is taken out; ``key`` is equal for equal redactions."""

    is_private: bool = False
    masks: tuple[TextMask, ...] = ()
    key: str = ""

    def __bool__(self) -> bool:
        return self.is_private or bool(self.masks)

    def apply(self, span: SpanData) -> SpanData:
        """Return ``span`` without what may not be seen; links lose their attributes, which are not looked into."""
        if span.links:
            span = replace(span, links=tuple([replace(link, attributes=_NO_ATTRIBUTES) for link in span.links]))
        if self.is_private:
            span = without_content(span)
        return _masked_span(span, self.masks) if self.masks else span


NO_REDACTION: Final = Redaction()


def without_content(span: SpanData) -> SpanData:
    """Return ``span`` as privacy mode shows it: only what is known to be no content (``model/privacy.py``)."""
    return span.with_attributes(
        privacy.without_content(span.attributes),
        events=tuple([_without_content(event) for event in span.events]),
        status_message="",
    )


def _without_content(event: EventData) -> EventData:
    return replace(event, attributes=privacy.event_without_content(event.name, event.attributes))


def pattern_mask(pattern: str, replacement: str) -> TextMask:
    """Return a mask that puts ``replacement`` wherever ``pattern`` (a regular expression) is found."""
    compiled = Pattern(pattern)
    return lambda text: compiled.replaced(text, replacement)


def function_mask(function: Callable[[str], Any]) -> TextMask:
    """Return a mask of the user's ``function``; what it returns is sent as text."""

    @never_raise
    def masked(text: str) -> str:
        return str(function(text))

    return masked


class _MaskFailedError(Exception):
    """A mask gave no answer for a part of a value."""


def _masked_span(span: SpanData, masks: Sequence[TextMask]) -> SpanData:
    return replace(
        span,
        name=_masked_text(span.name, masks),
        attributes=_masked_attributes(span.attributes, masks),
        events=tuple(replace(event, attributes=_masked_attributes(event.attributes, masks)) for event in span.events),
        status_message=_masked_text(span.status_message, masks),
    )


def _masked_attributes(attributes: Mapping[str, Any], masks: Sequence[TextMask]) -> dict[str, Any]:
    return {name: value if name in _STRUCTURAL else _masked_value(value, masks) for name, value in attributes.items()}


def _masked_text(text: str, masks: Sequence[TextMask]) -> str:
    return str(_masked_value(text, masks))


def _masked_value(value: Any, masks: Sequence[TextMask]) -> Any:  # noqa: ANN401 - any attribute value
    try:
        return _masked(value, masks)
    except (_MaskFailedError, RecursionError):
        # The whole value, not the one text in it: a slow pattern is waited for once, not for each of a thousand texts.
        counters.add("redaction_errors")
        warn_once("redaction_errors", "spancast: a mask failed; what it should have masked is hidden altogether")
        return MASKING_FAILED


def _masked(value: Any, masks: Sequence[TextMask]) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        inner = json_codec.decode(value) if value[:1] in ("[", "{") else None
        # Inside the texts, so that what is sent is JSON still.
        return _through(value, masks) if inner is None else json_codec.encode(_masked_json(inner, masks))
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        masked = _through(text, masks)
        return value if masked == text else masked
    if is_mapping(value):
        return {key: _masked(item, masks) for key, item in value.items()}
    if is_list(value):
        return [_masked(item, masks) for item in cast("Iterable[Any]", value)]
    return value


def _masked_json(value: Any, masks: Sequence[TextMask]) -> Any:  # noqa: ANN401 - any JSON
    if is_mapping(value):
        # Names such as `role` stay, so that readers of messages go on reading; an address is no such name.
        return {
            key if key.isidentifier() else _through(key, masks): _masked_json(item, masks)
            for key, item in value.items()
        }
    if is_list(value):
        return [_masked_json(item, masks) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # A number in a tool's arguments may be a card's; counts and costs are attributes of their own.
        text = str(value)
        masked = _through(text, masks)
        return value if masked == text else masked
    return _masked(value, masks)


def _through(text: str, masks: Sequence[TextMask]) -> str:
    for mask in masks:
        if not text:
            break
        masked = mask(text)
        if masked is None:
            raise _MaskFailedError
        # A user's function may return what UTF-8 has no bytes for.
        text = masked if masked.isascii() else json_codec.well_formed(masked)
    return text
