"""The first question and the last answer of each group span, from the calls inside it.

A call ends before its group, so its record is built first: its texts are held for its parent, and handed up at each
ancestor's end until a group takes them. A group has the texts of calls of its own process that ended before it.
Without content (privacy settings, embeddings) there is nothing to hold. Redaction follows, as for every attribute.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from spancast.diagnostics import counters
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv
from spancast.model.truncation import shortened

MAX_TEXT_BYTES: Final = 64 << 10
_MAX_PARENTS: Final = 4_096
_MAX_HELD_BYTES: Final = 8 << 20


@dataclass(slots=True)
class _Texts:
    """The question of the call that started first, and the answer of the call that ended last."""

    question: str = ""
    asked_ns: int = 0
    answer: str = ""
    answered_ns: int = 0

    def merge(self, other: _Texts) -> None:
        if other.question and (not self.question or other.asked_ns < self.asked_ns):
            self.question, self.asked_ns = other.question, other.asked_ns
        if other.answer and (not self.answer or other.answered_ns >= self.answered_ns):
            self.answer, self.answered_ns = other.answer, other.answered_ns

    @property
    def size(self) -> int:
        return len(self.question) + len(self.answer)


class GroupContent:
    """The texts of ended calls, by the id of the parent that has not ended yet. Bounded; for one thread."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, _Texts] = OrderedDict()
        self._held_bytes = 0

    def complete(self, span: SpanData) -> SpanData:
        """Return ``span`` with the texts of its calls if it is a group span; hold texts for its parent."""
        texts = self._held.pop(span.span_id, None)
        if texts is not None:
            self._held_bytes -= texts.size
        attributes = span.attributes
        has_own = semconv.INPUT_MESSAGES in attributes or semconv.OUTPUT_MESSAGES in attributes
        if has_own:
            if not span.parent_span_id or facts.work(span) == "embedding":
                return span
            held = self._held.get(span.parent_span_id)
            # A conversation may be long: it is not parsed if an earlier call of the same parent asked first.
            is_first = held is None or not held.question or span.start_ns < held.asked_ns
            texts = _texts_of(span, with_question=is_first)
        if texts is None:
            return span
        if span.parent_span_id:
            self._hold(span.parent_span_id, texts)
        return span if has_own or facts.work(span) != "group" else _with_texts(span, texts)

    def _hold(self, parent: str, texts: _Texts) -> None:
        held = self._held.setdefault(parent, _Texts())
        self._held_bytes -= held.size
        held.merge(texts)
        self._held_bytes += held.size
        # The parent of a late call never comes; that of a long one may.
        while self._held_bytes > _MAX_HELD_BYTES or len(self._held) > _MAX_PARENTS:
            _, evicted = self._held.popitem(last=False)
            self._held_bytes -= evicted.size
            counters.add("group_content_evicted")


def _texts_of(span: SpanData, *, with_question: bool) -> _Texts:
    question = (facts.question(span) if with_question else None) or ""
    answer = span.first(semconv.OUTPUT_MESSAGES)
    return _Texts(
        shortened(question, MAX_TEXT_BYTES),
        span.start_ns,
        shortened(answer, MAX_TEXT_BYTES) if isinstance(answer, str) else "",
        span.end_ns,
    )


def _with_texts(span: SpanData, texts: _Texts) -> SpanData:
    attributes = dict(span.attributes)
    if texts.question:
        message = {"role": "user", "parts": [{"type": "text", "content": texts.question}]}
        attributes[semconv.INPUT_MESSAGES] = json_codec.encode([message])
    if texts.answer:
        attributes[semconv.OUTPUT_MESSAGES] = texts.answer
    return span.with_attributes(attributes)
