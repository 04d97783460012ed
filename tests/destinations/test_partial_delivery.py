"""Requests within the limits of a product; of a partial failure the rest only is sent again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.destinations.payloads import ENCODER
from tests.destinations.spans import records, span
from tests.export.pipelines import pipeline_with

from spancast.destinations import partial_delivery
from spancast.destinations.partial_delivery import Answer, Partial, PartialDelivery, Row
from spancast.destinations.protocol import Delivered, Encoder, Outcome, Payload, Rejected, Retry
from spancast.export import delivery_worker


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_delivery, "_PAUSES_S", (0.0, 0.0, 0.0))


def rows(*sizes: int) -> list[Row]:
    return [Row("t", str(number), b"x" * size) for number, size in enumerate(sizes)]


class Product:
    """Answers requests in order, the last answer repeatedly; ``sent`` has the span ids of each."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent: list[str] = []

    def send(self, part: Sequence[Row], timeout_s: float) -> Answer:
        self.sent.append("".join(row.span_id for row in part))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_requests_stay_within_both_limits() -> None:
    delivery = PartialDelivery("P", max_rows=3, max_bytes=100, row_overhead=10)
    product = Product(Delivered())
    assert delivery.deliver(rows(1, 1, 1, 1, 70, 10, 1, 90), product.send, 60) == Delivered()
    assert product.sent == ["012", "34", "56", "7"]


def test_row_over_the_limit_sends_nothing() -> None:
    delivery, product = PartialDelivery("P", max_rows=3, max_bytes=100, max_row_bytes=50), Product(Delivered())
    outcome = delivery.deliver(rows(1, 51), product.send, 60)
    assert outcome == Rejected("P: a row has 51 bytes, the limit is 50", too_large=True)
    assert not product.sent


def test_only_the_rest_is_sent_again_inside_the_delivery() -> None:
    delivery = PartialDelivery("P", max_rows=4, max_bytes=1000)
    product = Product(Partial({1: "busy", 3: "busy"}), Delivered(), Partial({0: "busy"}), Delivered())
    assert delivery.deliver(rows(*[1] * 6), product.send, 60) == Delivered()
    assert product.sent == ["0123", "45", "13", "1"]


def test_only_the_rest_is_sent_again_by_the_retry() -> None:
    delivery = PartialDelivery("P", max_rows=2, max_bytes=1000)
    product = Product(Delivered(), Partial({1: "busy"}, {0: "bad"}), Partial({0: "busy"}))
    assert delivery.deliver(rows(*[1] * 4), product.send, 60) == Retry("P: 1 of 4 rows were not taken: busy")
    assert product.sent == ["01", "23", "3", "3"]
    product.answers = [Delivered()]
    assert delivery.deliver(rows(*[1] * 4), product.send, 60) == Delivered(1, "bad", frozenset({("t", "2")}))
    assert product.sent[4:] == ["3"]
    assert delivery.deliver(rows(*[1] * 4), product.send, 60) == Delivered()
    assert product.sent[5:] == ["01", "23"], "what was delivered is not remembered"


def test_rejection_after_a_row_was_taken_divides_the_batch() -> None:
    delivery = PartialDelivery("P", max_rows=2, max_bytes=1000)
    product = Product(Delivered(), Rejected("gone"))
    assert delivery.deliver(rows(1, 1, 1), product.send, 60) == Rejected("gone", invalid_content=True)
    assert delivery.deliver(rows(1, 1), product.send, 60) == Delivered()
    assert product.sent == ["01", "2"]


def test_spans_that_a_product_rejects_by_name_are_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the spans beside them nor the batch are sent again."""
    monkeypatch.setattr(delivery_worker, "FIRST_BACKOFF_S", 0.02)
    sent: list[int] = []

    class Picky:
        encoder: Encoder = ENCODER

        def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
            sent.append(len(payload.spans))
            bad = frozenset((one.trace_id, one.span_id) for one in payload.spans if one.name == "bad")
            return Delivered(len(bad), "too old", bad)

        def test_connection(self, timeout_s: float) -> Outcome:
            return Delivered()

        def close(self) -> None: ...

    pipeline = pipeline_with({"one": Picky()}, None)
    pipeline.spool.put(records([span("bad" if number in (3, 7) else "good", number + 1) for number in range(10)]), {})
    pipeline._start()
    report = pipeline.flush(60).destinations["one"]
    assert (report.delivered, report.dead_lettered, report.queued) == (8, 2, 0)
    assert [letter.reason for letter in pipeline.spool.dead_letters()] == ["too old", "too old"]
    assert sent == [10]
    pipeline.shutdown()
