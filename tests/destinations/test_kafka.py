"""The Kafka destination with librdkafka's cluster in the test's process, read by a consumer."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.destinations.configs import CANARY
from tests.destinations.conftest import Explained
from tests.destinations.golden import assert_golden
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import LEAKS, conversation, records, span
from tests.encoding.test_conventions import TOOLS
from tests.export.pipelines import pipeline_with
from tests.ports import own_port

from spancast.destinations import kafka
from spancast.destinations.kafka import KafkaConfig, KafkaDestination
from spancast.destinations.protocol import Delivered, Rejected, Retry
from spancast.destinations.sql_rows import ROW_NAMES
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.redaction import Redaction
from spancast.errors import ConfigError
from spancast.testing import check_destination

confluent_kafka = pytest.importorskip("confluent_kafka", reason="NO KAFKA: confluent-kafka is not installed")


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    holder = confluent_kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "ignored", "log_level": 0})
    found = holder.list_topics(timeout=60).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in found)
    del holder


def destination(brokers: str, **others: Any) -> KafkaDestination:
    fields = {"type": "kafka", "brokers": brokers, "timeout": 60, **others}
    return kafka.create(KafkaConfig.model_validate(fields), ENCODER)


Read = Callable[..., list[Any]]


@pytest.fixture
def read(brokers: str) -> Iterator[Read]:
    consumers = []

    def messages(topic: str, count: int) -> list[Any]:
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": brokers, "group.id": topic, "auto.offset.reset": "earliest", "log_level": 0}
        )
        consumers.append(consumer)
        consumer.subscribe([topic])
        found = consumer.consume(count, timeout=60)
        # And no more than these.
        found += consumer.consume(1, timeout=0.5)
        assert [message.error() for message in found] == [None] * len(found)
        return found

    yield messages
    for consumer in consumers:
        consumer.close()


def test_message_is_the_row_of_a_span(brokers: str, read: Read) -> None:
    to = destination(brokers, topic="rows")
    assert to.test_connection(60) == Delivered()
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    messages = read("rows", 4)
    assert len(messages) == 4
    rows = {row["span_id"]: row for row in (json.loads(message.value()) for message in messages)}
    call = rows["0000000000000003"]
    assert list(call) == list(ROW_NAMES)
    assert (call["trace_id"], call["prompt_tokens"], call["total_cost"]) == ("order_processing_001", 100, 0.00075)
    assert call["input"]["messages"][-1] == {"role": "user", "content": "Process this order..."}
    assert {message.key() for message in messages} == {conversation()[0].trace_id.encode()}
    assert dict(messages[0].headers()) == {"content-type": b"application/json", "spancast-schema": b"1"}


def test_messages_match_the_golden_file(brokers: str, read: Read) -> None:
    to = destination(brokers, topic="golden")
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    found = [
        {
            "key": message.key().decode(),
            "headers": {name: value.decode() for name, value in message.headers()},
            "value": json.loads(message.value()),
        }
        for message in read("golden", 4)
    ]
    assert_golden("kafka", sorted(found, key=lambda one: one["value"]["end_time"]))


def test_otlp_message_is_a_request(brokers: str, read: Read) -> None:
    to = destination(brokers, topic="otlp", format="otlp_proto", key="session_id")
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    messages = read("otlp", 4)
    spans = [
        one.name
        for message in messages
        for resource in ExportTraceServiceRequest.FromString(message.value()).resource_spans
        for scope in resource.scope_spans
        for one in scope.spans
    ]
    assert sorted(spans) == sorted(one.name for one in conversation())
    assert {message.key() for message in messages} == {b"session_abc"}
    assert dict(messages[0].headers())["content-type"] == b"application/x-protobuf"


def test_otlp_json_message_is_a_request(brokers: str, read: Read) -> None:
    to = destination(brokers, topic="otlp-json", format="otlp_json")
    assert to.deliver(payload(conversation()[:1]), 60) == Delivered()
    to.close()
    [message] = read("otlp-json", 1)
    [resource] = json.loads(message.value())["resourceSpans"]
    assert resource["scopeSpans"][0]["spans"][0]["spanId"] == "0000000000000003"


def test_span_over_the_limit_is_truncated_and_costs_no_other(brokers: str, read: Read) -> None:
    large = {
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "x" * 900_000}]}])
    }
    batch = records([span("a", number + 1, attributes=large if number == 4 else {}) for number in range(9)])
    pipeline = pipeline_with({"one": _Encoding(destination(brokers, topic="large"))}, None)
    pipeline.spool.put(batch, {})
    pipeline._start()
    report = pipeline.flush(120).destinations["one"]
    assert (report.delivered, report.dead_lettered, report.queued) == (9, 0, 0)
    pipeline.shutdown()
    found = [json.loads(message.value())["span_id"] for message in read("large", 9)]
    assert len(found) == len(set(found)) == 9


class _Encoding:
    """The destination with the real encoder, which can truncate."""

    def __init__(self, to: KafkaDestination) -> None:
        self.encoder = SpanEncoder(redaction=Redaction(), convention="gen_ai", only_genai=False)
        self.deliver, self.test_connection, self.close = to.deliver, to.test_connection, to.close


def test_brokers_limit_is_named(brokers: str) -> None:
    to = destination(brokers, topic="limit", options={"message.max.bytes": 3000})
    outcome = to.deliver(payload(conversation()[:1]), 60)
    assert isinstance(outcome, Rejected)
    assert outcome.too_large
    assert "the limit is 1976" in outcome.reason
    to.close()


def test_no_broker_is_retried_with_the_reason() -> None:
    to = destination(f"127.0.0.1:{own_port()}", timeout=1, sasl_username="u", sasl_password=CANARY)
    outcome = to.deliver(payload(), 5)
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith("Kafka 127.0.0.1:")
    assert "4 of 4 rows were not taken" in outcome.reason
    assert isinstance(to.test_connection(0.5), Retry)
    assert CANARY not in f"{outcome} {to._config!r}"
    to.close()


@contextlib.contextmanager
def reachable_at(port: int, brokers: str) -> Iterator[None]:
    """Forward each connection to ``port`` to the first of ``brokers``, which names its own port from then on."""
    host, broker_port = brokers.split(",", maxsplit=1)[0].rsplit(":", 1)

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(broker_port))) as broker:
                back = threading.Thread(target=_copy, args=(broker, self.request))
                back.start()
                _copy(self.request, broker)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", port), Forward) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield
        server.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_messages_of_a_failed_delivery_are_not_sent_later(brokers: str, read: Read) -> None:
    port = own_port()
    to = destination(f"127.0.0.1:{port}", topic="later")
    failed, others = conversation()[:2], conversation()[2:3]
    assert isinstance(to.deliver(payload(failed), 0.1), Retry)
    with reachable_at(port, brokers):
        assert to.deliver(payload(others), 60) == Delivered()
        to.close()
    assert [json.loads(message.value())["span_id"] for message in read("later", 1)] == [others[0].span_id]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("UNKNOWN_TOPIC_OR_PART", Rejected), ("_UNKNOWN_TOPIC", Rejected), ("MSG_SIZE_TOO_LARGE", Rejected),
        ("TOPIC_AUTHORIZATION_FAILED", Retry), ("_AUTHENTICATION", Retry), ("NOT_ENOUGH_REPLICAS", Retry),
        ("_MSG_TIMED_OUT", Retry), ("LEADER_NOT_AVAILABLE", Retry),
    ],
)  # fmt: skip
def test_outcome_of_an_error(name: str, kind: type) -> None:
    to = destination("127.0.0.1:9")
    outcome = to._outcome(confluent_kafka.KafkaError(getattr(confluent_kafka.KafkaError, name)))
    assert isinstance(outcome, kind)
    assert f"Kafka 127.0.0.1:9, topic spancast.spans: {name} (" in outcome.reason
    assert getattr(outcome, "too_large", False) == (name == "MSG_SIZE_TOO_LARGE")


def test_wrong_option_is_an_error_of_the_configuration(brokers: str) -> None:
    to = destination(brokers, options={"sasl.mechanism": CANARY, "no.such": 1})
    with pytest.raises(ConfigError, match="property") as raised:
        to.test_connection(1)
    assert CANARY not in str(raised.value)


def test_forked_child_has_its_own_producer(brokers: str, read: Read) -> None:
    to = destination(brokers, topic="fork")
    assert to.deliver(payload(conversation()[:1]), 60) == Delivered()
    child = os.fork()
    if child == 0:
        os._exit(0 if to.deliver(payload(conversation()[1:]), 60) == Delivered() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert to.deliver(payload(conversation()[:1]), 60) == Delivered(), "the parent's producer still works"
    to.close()
    assert len(read("fork", 5)) == 5


def test_privacy_mode_sends_no_content(brokers: str, read: Read) -> None:
    private = SpanEncoder(redaction=Redaction(is_private=True, key="p"), convention="gen_ai")
    leaking = records([span("call", 9, attributes={**TOOLS, **LEAKS}, status="error", status_message="canary")])
    to = destination(brokers, topic="private")
    assert to.deliver(private.payload(leaking), 60) == Delivered()
    to.close()
    [message] = read("private", 1)
    assert b"gpt-4o" in message.value()
    assert b"canary" not in message.value()


def test_contract(brokers: str) -> None:
    entry = {"type": "kafka", "bootstrap_servers": brokers, "topic": "contract", "timeout": "30s"}
    check_destination(
        lambda: entry,
        unreachable=lambda: {
            **entry,
            "bootstrap_servers": f"127.0.0.1:{own_port()}",
            "timeout": 0.3,
            "sasl_username": "u",
            "sasl_password": CANARY,
        },
        secrets=[CANARY],
    )


def test_explain_follows_a_span(brokers: str, read: Read, explained: Explained) -> None:
    entry = {"type": "kafka", "bootstrap_servers": brokers, "topic": "explained", "timeout": "30s"}
    assert explained(entry)[0] == "delivered"
    state, reason = explained({**entry, "topic": "small", "options": {"message.max.bytes": 1000}})
    assert (state, "the limit is" in reason) == ("dead_lettered", True)
    away = {**entry, "bootstrap_servers": f"127.0.0.1:{own_port()}", "timeout": 0.3}
    state, reason = explained(away, is_away=True)
    assert (state, "_MSG_TIMED_OUT" in reason) == ("queued", True)
    assert len(read("explained", 1)) == 1
