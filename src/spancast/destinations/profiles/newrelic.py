"""New Relic.

Source: its page on AI monitoring by OpenTelemetry (``semconv.md`` 3.11): a span counts as AI by
``gen_ai.provider.name`` or ``gen_ai.system``. It cuts every text at 4,095 characters (OpenRouter's New
Relic destination says so too): texts are shortened here, so that JSON stays JSON.
"""

from __future__ import annotations

from typing import Final

from spancast.destinations import generation
from spancast.destinations.plain_span import PlainSpan
from spancast.destinations.profiles import facts
from spancast.destinations.shortening import with_short_values
from spancast.model import semconv

_LONGEST: Final = 4095


def rename(span: PlainSpan) -> PlainSpan:
    """Return ``span`` with texts that New Relic does not cut."""
    if facts.work(span) not in ("llm", "embedding"):
        return with_short_values(span, _LONGEST)
    written = facts.written(
        [
            (facts.SYSTEM, span.text(semconv.PROVIDER_NAME)),
            ("gen_ai.usage.total_tokens", facts.usage(span).total),
            ("gen_ai.usage.cost", generation.costs(span).total),
        ]
    )
    return with_short_values(span.with_attributes({**span.attributes, **written}), _LONGEST)
