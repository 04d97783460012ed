"""Requests within the limits of a product; of a partial failure the rest only is sent again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.destinations.payloads import ENCODER
from tests.destinations.spans import records, span
from tests.export.pipelines import pipeline_with, report_when

from spancast.destinations import partial_delivery
from spancast.destinations.partial_delivery import Answer, Partial, PartialDelivery, Row
from spancast.destinations.protocol import (
    Delivered,
    Encoder,
    Failed,
    Failure,
    Outcome,
    PartlyDelivered,
    Payload,
    Rejected,
    Retry,
)
from spancast.diagnostics import counters
from spancast.errors import ConfigError
from spancast.export import delivery_worker
from spancast.model.span_record import SpanRecord


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


def test_outcome_names_what_was_taken_and_rejected() -> None:
    delivery = PartialDelivery("P", max_rows=2, max_bytes=1000)
    product = Product(Delivered(), Partial({1: "busy"}, {0: "bad"}), Partial({0: "busy"}))
    assert delivery.deliver(rows(*[1] * 4), product.send, 60) == PartlyDelivered(
        Retry("P: 1 of 4 rows were not taken: busy"), frozenset({("t", "0"), ("t", "1")}), {("t", "2"): "bad"}
    )
    assert product.sent == ["01", "23", "3", "3"]


@pytest.mark.parametrize("failure", [Rejected("gone"), Failed("unreadable"), Retry("503")])
def test_failure_after_a_row_was_taken_is_that_of_the_rest(failure: Failure) -> None:
    delivery = PartialDelivery("P", max_rows=2, max_bytes=1000)
    product = Product(Delivered(), failure)
    taken = frozenset({("t", "0"), ("t", "1")})
    assert delivery.deliver(rows(1, 1, 1), product.send, 60) == PartlyDelivered(failure, taken)
    assert delivery.deliver(rows(1), product.send, 60) == failure


def test_rows_that_were_taken_before_an_exception_are_not_sent_again() -> None:
    delivery = PartialDelivery("P", max_rows=2, max_bytes=1000)
    sent: list[str] = []

    def send(part: Sequence[Row], timeout_s: float) -> Answer:
        sent.append("".join(row.span_id for row in part))
        if len(sent) == 2:
            raise ValueError("odd row")
        return Delivered()

    taken = frozenset({("t", "0"), ("t", "1")})
    outcome = delivery.deliver(rows(1, 1, 1), send, 60)
    assert isinstance(outcome, PartlyDelivered)
    assert (type(outcome.rest), outcome.delivered, sent) == (Failed, taken, ["01", "2"])


def test_error_of_the_configuration_is_retried_and_is_no_internal_error() -> None:
    delivery = PartialDelivery("P", max_rows=1, max_bytes=1000)
    sent: list[str] = []

    def send(part: Sequence[Row], timeout_s: float) -> Answer:
        sent.append(part[0].span_id)
        if len(sent) == 2:
            raise ConfigError("P: no property `x`")
        return Delivered()

    before = counters.read()
    outcome = delivery.deliver(rows(1, 1), send, 60)
    assert outcome == PartlyDelivered(Retry("P: no property `x`"), frozenset({("t", "0")}))
    assert counters.read() == before


def test_failure_of_a_part_is_that_of_all_rows_that_are_not_settled() -> None:
    delivery = PartialDelivery("P", max_rows=3, max_bytes=1000)
    too_large = Rejected("too large", too_large=True)
    product = Product(Partial({1: "too large"}, {2: "bad"}, too_large))
    outcome = delivery.deliver(rows(1, 1, 1, 1), product.send, 60)
    assert outcome == PartlyDelivered(too_large, frozenset({("t", "0")}), {("t", "2"): "bad"})
    assert product.sent == ["012"]


class Table:
    """A product of single rows: takes those whose names are in ``takes``, rejects "bad", and is busy for the others."""

    encoder: Encoder = ENCODER

    def __init__(self, takes: str, rest: Failure | None = None) -> None:
        self.takes, self.rest = takes, rest
        self.rows: list[str] = []
        self.requests: list[str] = []
        self._delivery = PartialDelivery("Table", max_rows=1, max_bytes=1000)

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        return self._delivery.deliver(
            [Row(one.trace_id, one.span_id, one.name.encode()) for one in payload.spans], self._send, timeout_s
        )

    def _send(self, part: Sequence[Row], timeout_s: float) -> Answer:
        name = part[0].body.decode()
        self.requests.append(name)
        if name == "bad":
            return Partial(rejected={0: "no such column"})
        if name not in self.takes:
            return self.rest or Partial({0: "busy"})
        self.rows.append(name)
        return Delivered()

    def test_connection(self, timeout_s: float) -> Outcome:
        return Delivered()

    def close(self) -> None: ...


def named(*names: str) -> list[SpanRecord]:
    return records([span(name, number + 1) for number, name in enumerate(names)])


@pytest.mark.parametrize("end", ["kept", "closed"])
def test_rows_that_were_taken_are_not_sent_again_after_a_restart(end: str, tmp_path: Path) -> None:
    first = Table("ace")
    pipeline = pipeline_with({"one": first}, tmp_path)
    pipeline.spool.put(named("a", "b", "bad", "c", "d", "e"), {})
    pipeline._start()
    report = report_when(pipeline.flush, lambda report: report.destinations["one"].last_error)
    assert report.destinations["one"].queued == 2
    assert pipeline.spool.state("one").delivered == 3
    assert [letter.reason for letter in pipeline.spool.dead_letters()] == ["no such column"]
    second = Table("abcde")
    if end == "closed":
        pipeline.shutdown(0)
        again = pipeline_with({"one": second}, tmp_path)
        assert again.flush(60)
        again.shutdown()
    else:
        first.takes = "abcde"
        report_when(pipeline.flush, lambda report: not report.destinations["one"].queued)
        pipeline.shutdown()
    assert sorted(first.rows + second.rows) == list("abcde"), "each once"


def test_row_that_was_taken_is_no_answer_to_a_later_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that then fails for everything dead-letters nothing."""
    monkeypatch.setattr(delivery_worker, "FIRST_BACKOFF_S", 0.02)
    table = Table("abc")
    pipeline = pipeline_with({"one": table}, None)
    pipeline.spool.put(named(*"abcdefgh"), {})
    pipeline._start()
    report_when(pipeline.flush, lambda report: report.destinations["one"].last_error)
    table.rest = Failed("unreadable")
    report_when(pipeline.flush, lambda report: "unreadable" in report.destinations["one"].last_error)
    assert pipeline.spool.state("one").dead_lettered == 0
    assert pipeline.spool.state("one").queued == 5
    table.takes = "abcdefgh"
    report_when(pipeline.flush, lambda report: not report.destinations["one"].queued)
    assert sorted(table.rows) == list("abcdefgh")
    pipeline.shutdown()


def test_of_a_divided_batch_the_rest_alone_is_dead_lettered() -> None:
    table = Table("abc", Rejected("row is invalid", invalid_content=True))
    pipeline = pipeline_with({"one": table}, None)
    pipeline.spool.put(named(*"abxcy"), {})
    pipeline._start()
    report_when(pipeline.flush, lambda report: not report.destinations["one"].queued)
    letters = pipeline.spool.dead_letters()
    assert sorted((letter.span_id, letter.reason) for letter in letters) == [
        (span("x", number).span_id, "row is invalid") for number in (3, 5)
    ]
    assert table.rows == list("abc"), "each once"
    pipeline.shutdown()


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
