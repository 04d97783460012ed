"""GenAI client metrics through the OpenTelemetry metrics API (names of the conventions of October 2026).

Metrics have no conversation, user or custom keys: only the attributes in ``_DIMENSIONS``.

One measurement costs the SDK 12 to 25 µs (its key of the attributes, its buckets, its exemplars). So histograms alone
are measured per call. Tokens are added up here and read by observable counters, which have the same data points as
counters, once per collection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation

from spancast.diagnostics import after_fork_in_child
from spancast.model import semconv
from spancast.model.call import Attributes, AttributeValue

_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS: Final = tuple(4**power for power in range(14))
_PREFIX: Final = "gen_ai.client.inference."
_EMBEDDINGS: Final = "gen_ai.client.embeddings.duration"
_MODALITY: Final = "gen_ai.token.modality"

_DIMENSIONS: Final = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
    semconv.ERROR_TYPE,
    semconv.OPENAI_RESPONSE_SERVICE_TIER,
    semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT,
)

# Counter -> the attribute of its total, and the modality of each attribute that is a part of it.
_COUNTED: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "usage.input_tokens": (
        semconv.USAGE_INPUT_TOKENS,
        {semconv.USAGE_AUDIO_INPUT: "audio", semconv.USAGE_IMAGE_INPUT: "image", semconv.USAGE_TEXT_INPUT: "text"},
    ),
    "usage.output_tokens": (
        semconv.USAGE_OUTPUT_TOKENS,
        {semconv.USAGE_AUDIO_OUTPUT: "audio", semconv.USAGE_IMAGE_OUTPUT: "image", semconv.USAGE_TEXT_OUTPUT: "text"},
    ),
    "usage.cache_read.input_tokens": (semconv.USAGE_CACHE_READ, {}),
    "usage.cache_write.input_tokens": (semconv.USAGE_CACHE_WRITE, {}),
    "usage.reasoning.output_tokens": (semconv.USAGE_REASONING, {}),
}
_ALWAYS_COUNTED: Final = ("usage.input_tokens", "usage.output_tokens")


_Labels = tuple[tuple[str, AttributeValue], ...]

_lock = threading.RLock()
"""Reentrant: the garbage collector may end a call on the thread that holds it."""


def _in_child() -> None:
    global _lock  # noqa: PLW0603 - one per process
    _lock = threading.RLock()


after_fork_in_child(_in_child)


class ClientMetrics:
    """The instruments of one meter provider, for the life of that provider.

    ``before_collection`` is called first in each collection: it waits for calls that have ended but are not parsed.
    """

    def __init__(self, provider: MeterProvider, version: str, before_collection: Callable[[], None]) -> None:
        self._before_collection: Final = before_collection
        self._counts: Final[dict[str, dict[_Labels, float]]] = {name: {} for name in _COUNTED}
        meter = provider.get_meter("spancast", version, semconv.SCHEMA_URL)

        def histogram(name: str, unit: str, buckets: Sequence[float]) -> Histogram:
            return meter.create_histogram(_PREFIX + name, unit, explicit_bucket_boundaries_advisory=buckets)

        self._embeddings = meter.create_histogram(_EMBEDDINGS, "s", explicit_bucket_boundaries_advisory=_SECONDS)
        self._duration = histogram("duration", "s", _SECONDS)
        self._first_chunk = histogram("time_to_first_chunk", "s", _SECONDS)
        self._next_chunk = histogram("time_per_output_chunk", "s", _SECONDS)
        self._input = histogram("operation.input_tokens", "{token}", _TOKENS)
        self._output = histogram("operation.output_tokens", "{token}", _TOKENS)
        callbacks: list[Callable[[CallbackOptions], Iterable[Observation]]] = [self._prepare]
        for name, counts in self._counts.items():
            # The first counter that is read prepares all others.
            callbacks.append(self._reader_of(counts))
            meter.create_observable_counter(_PREFIX + name, callbacks, "{token}")
            callbacks = []

    def record(
        self,
        attributes: Attributes,
        duration_s: float,
        chunk_times_s: Sequence[float],
        context: Context | None = None,
    ) -> None:
        """Record an ended call.

        ``chunk_times_s`` are the seconds from the request to the chunks whose times are measured: none, the first, or
        all. An exemplar takes the span from ``context``, the context of the call.
        """
        labels = {name: attributes[name] for name in _DIMENSIONS if name in attributes}
        if attributes.get(semconv.OPERATION_NAME) == "embeddings":
            # The convention has no other metric for them.
            self._embeddings.record(duration_s, labels, context)
            return
        self._duration.record(duration_s, labels, context)
        if chunk_times_s:
            self._first_chunk.record(chunk_times_s[0], labels, context)
            for earlier, later in pairwise(chunk_times_s):
                self._next_chunk.record(later - earlier, labels, context)
        for name, instrument in (
            (semconv.USAGE_INPUT_TOKENS, self._input),
            (semconv.USAGE_OUTPUT_TOKENS, self._output),
        ):
            amount = attributes.get(name)
            if isinstance(amount, (int, float)):
                instrument.record(amount, labels, context)
        self._count(attributes, tuple(labels.items()))

    def _count(self, attributes: Attributes, labels: _Labels) -> None:
        with _lock:
            for name, (total_name, modalities) in _COUNTED.items():
                total = attributes.get(total_name)
                if not isinstance(total, (int, float)):
                    if name not in _ALWAYS_COUNTED:
                        continue
                    # The convention requires a count for failed operations too.
                    total = 0
                counts = self._counts[name]
                rest = total
                for part_name, modality in modalities.items():
                    part = attributes.get(part_name)
                    if isinstance(part, (int, float)) and 0 < part <= rest:
                        _add(counts, (*labels, (_MODALITY, modality)), part)
                        rest -= part
                if rest or rest == total:
                    _add(counts, (*labels, (_MODALITY, "unknown")), rest)

    def _prepare(self, _: CallbackOptions) -> Iterable[Observation]:
        self._before_collection()
        return ()

    def _reader_of(self, counts: dict[_Labels, float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_: CallbackOptions) -> Iterable[Observation]:
            with _lock:
                # At once: the garbage collector may end a call, which is counted, during a loop.
                found = counts.copy()
            return [Observation(count, dict(labels)) for labels, count in found.items()]

        return read


def _add(counts: dict[_Labels, float], labels: _Labels, amount: float) -> None:
    counts[labels] = counts.get(labels, 0) + amount
