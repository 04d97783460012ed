"""The cache of payloads: shared payloads are encoded once, and the cache is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from tests.destinations.spans import records, span

from spancast.destinations.protocol import Payload
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.redaction import Redaction
from spancast.encoding.span_data import SpanData
from spancast.export.payload_cache import PayloadCache
from spancast.export.spool.protocol import Entry
from spancast.model.span_record import SpanRecord

PLAIN = SpanEncoder()
PRIVATE = SpanEncoder(redaction=Redaction(is_private=True, key="private"))


def entries(first: int, count: int = 3, size: int = 40) -> Sequence[Entry]:
    return [Entry(number, record(number, size)) for number in range(first, first + count)]


def record(number: int, size: int = 40) -> SpanRecord:
    [made] = records([span("x" * size, number + 1)])
    return made


def ids(spans: Iterable[SpanData]) -> list[str]:
    return [one.span_id for one in spans]


def test_equal_encoder_and_records_share_payload() -> None:
    cache = PayloadCache()
    payload = cache.payload(PLAIN, "log", entries(1))
    assert cache.payload(SpanEncoder(), "log", entries(1)) is payload, "an equal view"
    assert ids(payload.spans) == [entry.record.span_id.hex() for entry in entries(1)]


def test_other_encoder_or_records_get_own_payload() -> None:
    cache = PayloadCache()
    payload = cache.payload(PLAIN, "log", entries(1))
    assert cache.payload(PRIVATE, "log", entries(1)) is not payload
    assert cache.payload(PLAIN, "log", entries(2)) is not payload
    assert cache.payload(PLAIN, "log", entries(1, count=2)) is not payload
    assert cache.payload(PLAIN, "log", entries(1)) is payload, "which is known still"


def test_same_sequences_of_other_log_get_own_payload() -> None:
    cache = PayloadCache()
    former = cache.payload(PLAIN, "log", entries(1))
    others = [Entry(entry.sequence, record(100 + entry.sequence)) for entry in entries(1)]
    payload = cache.payload(PLAIN, "other log", others)
    assert payload is not former
    assert ids(payload.spans) == [entry.record.span_id.hex() for entry in others]
    assert payload.protobuf != former.protobuf


def test_cache_keeps_latest_payloads() -> None:
    cache = PayloadCache()
    first = cache.payload(PLAIN, "log", entries(1))
    last = [cache.payload(PLAIN, "log", entries(10 * number)) for number in range(1, 20)][-1]
    assert cache.payload(PLAIN, "log", entries(190)) is last
    assert cache.payload(PLAIN, "log", entries(1)) is not first


def test_cache_over_byte_limit_evicts_oldest_payload() -> None:
    cache = PayloadCache()
    large = [Entry(1, record(1, size=33 << 20))]
    first = cache.payload(PLAIN, "log", large)
    assert cache.payload(PLAIN, "log", large) is first
    second = cache.payload(PLAIN, "log", [Entry(2, large[0].record)])
    assert cache.payload(PLAIN, "log", [Entry(2, large[0].record)]) is second
    assert cache.payload(PLAIN, "log", large) is not first


def test_cache_counts_decoded_spans_and_encoded_forms() -> None:
    cache = PayloadCache()
    [entry] = [Entry(1, record(1, size=17 << 20))]
    first = cache.payload(PLAIN, "log", [entry])
    cache.payload(PRIVATE, "log", [entry])
    assert cache.payload(PLAIN, "log", [entry]) is first, "two records of 17 MiB fit"
    assert len(first.body("json", gzip=True)) > 0
    cache.payload(PLAIN, "other log", [entry])
    assert cache.payload(PLAIN, "log", [entry]) is not first, "record, spans and JSON are 51 MiB"


def test_payload_over_byte_limit_is_shared() -> None:
    cache = PayloadCache()
    huge = [Entry(1, record(1, size=70 << 20))]
    assert cache.payload(PLAIN, "log", huge) is cache.payload(PLAIN, "log", huge)


def test_concurrent_threads_get_one_payload() -> None:
    cache = PayloadCache()
    got: list[Payload] = []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait(60)
        got.append(cache.payload(PLAIN, "log", entries(1)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 8
    assert len({id(payload) for payload in got}) == 1
