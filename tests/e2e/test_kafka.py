"""The destination `kafka` with a real broker: what librdkafka's cluster in the process lacks, users and limits of topics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.destinations.configs import CANARY
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import conversation, records, span
from tests.e2e.engines import Kafka
from tests.export.pipelines import pipeline_with

from spancast.destinations import kafka
from spancast.destinations.kafka import KafkaConfig, KafkaDestination
from spancast.destinations.protocol import Delivered, Rejected, Retry

pytest.importorskip("confluent_kafka", reason="NO KAFKA: confluent-kafka is not installed")
TOPIC = "spans"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with Kafka(tmp_path_factory.mktemp("kafka")) as running:
        running.create_topic(TOPIC)
        yield running


def destination(brokers: str, **others: Any) -> KafkaDestination:
    fields = {"type": "kafka", "brokers": brokers, "topic": TOPIC, "timeout": 30, **others}
    return kafka.create(KafkaConfig.model_validate(fields), ENCODER)


def test_user_writes_and_a_consumer_reads_the_rows(broker: Kafka) -> None:
    to = destination(broker.secured, sasl_username="writer", sasl_password="secret")
    assert [to.test_connection(30), to.deliver(payload(), 60)] == [Delivered(), Delivered()]
    to.close()
    messages = broker.read(TOPIC, 4)
    assert [message.error() for message in messages] == [None] * 4
    rows = {row["span_id"]: row for row in (json.loads(message.value()) for message in messages)}
    assert rows["0000000000000003"]["input"]["messages"][-1]["content"] == "Process this order..."
    assert {message.key() for message in messages} == {conversation()[0].trace_id.encode()}


def test_wrong_password_is_retried_with_the_reason(broker: Kafka) -> None:
    to = destination(broker.secured, sasl_username="writer", sasl_password=CANARY, timeout=3)
    outcome = to.deliver(payload(), 30)
    to.close()
    assert isinstance(outcome, Retry)
    assert "_AUTHENTICATION" in outcome.reason
    assert CANARY not in outcome.reason


def test_user_without_permission_is_retried_with_the_reason(broker: Kafka) -> None:
    to = destination(broker.secured, sasl_username="reader", sasl_password="secret", timeout=5)
    outcome = to.deliver(payload(), 30)
    to.close()
    assert isinstance(outcome, Retry)
    assert "AUTHORIZATION_FAILED" in outcome.reason


def test_missing_topic_is_rejected_by_its_name(broker: Kafka) -> None:
    to = destination(broker.brokers, topic="missing")
    outcomes = [to.test_connection(30), to.deliver(payload(), 60)]
    to.close()
    for outcome in outcomes:
        assert isinstance(outcome, Rejected)
        assert "topic missing: " in outcome.reason
        assert "UNKNOWN_TOPIC" in outcome.reason


def test_limit_of_the_topic_costs_only_the_span_that_is_too_large(broker: Kafka) -> None:
    broker.create_topic("small", max_message_bytes="4000")
    # Not compressible: the limit holds for the compressed batch.
    noise = "".join(chr(0x4E00 + number * 7919 % 20000) for number in range(4000))
    content = json.dumps([{"role": "user", "parts": [{"type": "text", "content": noise}]}])
    attributes = [{"gen_ai.input.messages": content} if number == 1 else {} for number in range(3)]
    batch = records([span("a", number + 1, attributes=given) for number, given in enumerate(attributes)])
    pipeline = pipeline_with({"one": destination(broker.brokers, topic="small")}, None)
    pipeline.spool.put(batch, {})
    pipeline._start()
    report = pipeline.flush(120).destinations["one"]
    pipeline.shutdown()
    assert (report.delivered, report.dead_lettered, report.queued) == (2, 1, 0)
    assert {json.loads(message.value())["span_id"] for message in broker.read("small", 2)} == {
        "0000000000000001", "0000000000000003",
    }  # fmt: skip
