"""New Relic.

Source: its page on AI monitoring by OpenTelemetry: a span counts as AI by
``gen_ai.provider.name`` or ``gen_ai.system``. It cuts every text at 4,095 characters (also documented for OpenRouter's
New Relic destination). Texts are truncated here, so that JSON stays valid.
"""

from __future__ import annotations

from typing import Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.encoding.truncation import truncate_values
from spancast.model import semconv

_LONGEST: Final = 4095


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with texts within New Relic's limit."""
    if facts.work(span) not in ("llm", "embedding"):
        return truncate_values(span, _LONGEST)
    written = facts.written(
        [
            (facts.SYSTEM, span.text(semconv.PROVIDER_NAME)),
            ("gen_ai.usage.total_tokens", facts.usage(span).total),
            ("gen_ai.usage.cost", genai_fields.costs(span).total),
        ]
    )
    return truncate_values(span.with_attributes({**span.attributes, **written}), _LONGEST)
