"""The Kafka destination: a message per span, its row as JSON or an OTLP request.

Source: docs.confluent.io/platform/current/clients/confluent-kafka-python, librdkafka's CONFIGURATION.md. The producer
is idempotent, so that its own retries write a message once. A batch that is sent again may write messages twice: a
consumer knows them by the ids of the span. The Collector's ``kafkareceiver`` reads ``otlp_proto`` and ``otlp_json``.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from spancast.destinations.config import DestinationConfig, ExistingFile, field_error
from spancast.destinations.field_types import Duration, Secret, Text
from spancast.destinations.optional_imports import required
from spancast.destinations.partial_delivery import Answer, Partial, PartialDelivery, Row, rows_of
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Encoder, Outcome, Payload, Rejected, Retry
from spancast.destinations.sql_rows import ROW_NAMES, row_texts
from spancast.encoding.span_data import SpanData
from spancast.errors import ConfigError
from spancast.model import semconv

EXTRA: Final = "kafka"
_MAX_MESSAGE: Final = "message.max.bytes"
_DEFAULT_MAX_BYTES: Final = 1_000_000
_OVERHEAD: Final = 1024
"""Bytes of a message for its key and headers."""
_CONTENT_TYPES: Final = {
    "json": "application/json", "otlp_json": "application/json", "otlp_proto": "application/x-protobuf",
}  # fmt: skip
_GRACE_S: Final = 1.0
"""After the messages' own time limit, which ends them with the reason."""
_PERMANENT: Final = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "TOPIC_EXCEPTION", "UNSUPPORTED_FOR_MESSAGE_FORMAT")
_TOO_LARGE: Final = ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE")
_CONSEQUENCES: Final = ("_ALL_BROKERS_DOWN", "_TRANSPORT")
_SILENT: Final = logging.Logger("spancast.kafka", logging.CRITICAL + 1)  # noqa: LOG001 - not one of the program's
"""librdkafka prints fatal errors to stderr at every log level, unless it has a logger."""
_inherited: Final[list[Any]] = []
_INVALID: Final = ("INVALID_RECORD", "INVALID_MSG", "INVALID_MSG_SIZE")


def _as_text(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, (int, float)) else value


Option = Annotated[Secret, BeforeValidator(_as_text)]


class KafkaConfig(DestinationConfig, frozen=True):
    """A topic in Kafka or a compatible broker."""

    type: Literal["kafka"]
    bootstrap_servers: Text = Field(
        validation_alias=AliasChoices("bootstrap_servers", "bootstrapServers", "brokers"),
        description="Brokers, `host:9092`, separated by commas.",
    )
    topic: Text = Field("spancast.spans", description="The topic.")
    format: Literal["json", "otlp_proto", "otlp_json"] = Field(
        "json", description="Message: the row of OpenRouter's table as JSON, or an OTLP request of one span."
    )
    key: Literal["trace_id", "session_id"] = Field(
        "trace_id", description="Key of a message; a span without a session has its trace id."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = Field(
        None, description="Transport; default: by the other fields."
    )
    sasl_mechanism: Text | None = Field(None, description="Such as PLAIN or SCRAM-SHA-512; default: PLAIN.")
    sasl_username: Text | None = Field(None, description="User of SASL.")
    sasl_password: Secret | None = Field(None, description="Password of SASL.")
    ca_file: ExistingFile | None = Field(None, description="PEM file of trusted certificate authorities.")
    cert_file: ExistingFile | None = Field(None, description="PEM file of the client certificate.")
    key_file: ExistingFile | None = Field(None, description="PEM file of the client certificate's key.")
    options: dict[Text, Option] = Field(
        default_factory=dict[str, Secret], description="Other properties of librdkafka; they take precedence."
    )
    timeout: Duration = Field(10.0, description="Time limit of one delivery.")

    @property
    def has_own_format(self) -> bool:
        """Return whether messages are rows; OTLP has any convention."""
        return self.format == "json"

    @model_validator(mode="after")
    def _check_fields_are_used(self) -> KafkaConfig:
        if self.key_file is not None and self.cert_file is None:
            raise field_error(("cert_file",), None, "is missing; `key_file` needs it")
        if self.sasl_password is not None and self.sasl_username is None:
            raise field_error(("sasl_username",), None, "is missing; `sasl_password` needs it")
        return self

    def place(self) -> Place:
        """Return the brokers, the topic and the user."""
        brokers = sorted(part.strip().lower() for part in self.bootstrap_servers.split(",") if part.strip())
        return Place(
            address={"brokers": ",".join(brokers), "topic": self.topic, "format": self.format},
            account={"user": self.sasl_username},
        )

    def properties(self) -> dict[str, Any]:
        """Return the properties of the producer, with secrets in clear text."""
        has_sasl = self.sasl_username is not None or self.sasl_mechanism is not None
        has_tls = self.ca_file is not None or self.cert_file is not None
        derived = f"SASL_{'SSL' if has_tls else 'PLAINTEXT'}" if has_sasl else "SSL" if has_tls else "PLAINTEXT"
        given = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol or derived,
            "sasl.mechanism": (self.sasl_mechanism or "PLAIN") if has_sasl else None,
            "sasl.username": self.sasl_username,
            "sasl.password": self.sasl_password.get_secret_value() if self.sasl_password else None,
            "ssl.ca.location": str(self.ca_file) if self.ca_file else None,
            "ssl.certificate.location": str(self.cert_file) if self.cert_file else None,
            "ssl.key.location": str(self.key_file) if self.key_file else None,
            "client.id": "spancast",
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "zstd",
            "linger.ms": 5,
            "message.timeout.ms": max(round(self.timeout * 1000), 1),
            # Errors are in the outcomes of messages.
            "log_level": 0,
            **{name: value.get_secret_value() for name, value in self.options.items()},
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def max_message_bytes(self) -> int:
        """Return the limit of a message."""
        given = self.options.get(_MAX_MESSAGE)
        text = "" if given is None else given.get_secret_value()
        return int(text) if text.isdecimal() else _DEFAULT_MAX_BYTES


class KafkaDestination:
    """Produces a message per span; the producer is created for the first batch, and again in a forked child."""

    def __init__(self, config: KafkaConfig, encoder: Encoder, library: Any) -> None:  # noqa: ANN401 - a module
        self.encoder = encoder
        self._config = config
        self._library = library
        self._producer: tuple[int, Any] | None = None
        self._last_error = ""
        self._label = f"Kafka {config.bootstrap_servers}, topic {config.topic}"
        limit = max(config.max_message_bytes - _OVERHEAD, _OVERHEAD)
        self._delivery = PartialDelivery(self._label, max_rows=1024, max_bytes=1 << 30, max_row_bytes=limit)

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Produce a message for each span of ``payload`` and wait for the brokers."""
        names = (semconv.SESSION_ID,) if self._config.key == "session_id" else ()
        keys = {(span.trace_id, span.span_id): span.text(*names) or span.trace_id for span in payload.spans}
        send = functools.partial(self._produce, keys)
        return self._delivery.deliver(_messages(payload.spans, self._config.format), send, timeout_s)

    def test_connection(self, timeout_s: float) -> Outcome:
        """Read the metadata of the topic, which tests the brokers, the user and the topic; nothing is produced."""
        try:
            found = self._current_producer().list_topics(self._config.topic, timeout=timeout_s)
        except self._library.KafkaException as error:
            return self._outcome(error.args[0])
        error = found.topics[self._config.topic].error
        return Delivered() if error is None else self._outcome(error)

    def close(self) -> None:
        """Discard the producer; a message that is not delivered is in the spool."""
        self._delivery.close()
        self._discard()

    def _produce(self, keys: Mapping[tuple[str, str], str], rows: Sequence[Row], timeout_s: float) -> Answer:
        producer, limit_s = self._current_producer(), min(timeout_s, self._config.timeout)
        waiting = dict.fromkeys(range(len(rows)), "no answer in time")
        rejected: dict[int, str] = {}
        failures: list[Rejected] = []
        headers = [("content-type", _CONTENT_TYPES[self._config.format].encode()), ("spancast-schema", b"1")]

        def note(position: int, error: Any, _: object = None) -> None:  # noqa: ANN401 - the library's error
            if error is None:
                waiting.pop(position, None)
                return
            outcome = self._outcome(error)
            waiting[position] = outcome.reason
            if isinstance(outcome, Rejected):
                if outcome.invalid_content:
                    rejected[position] = waiting.pop(position)
                failures.append(outcome)

        for position, row in enumerate(rows):
            try:
                acked = functools.partial(note, position)
                producer.produce(self._config.topic, row.body, keys[row.key], headers=headers, on_delivery=acked)
            except self._library.KafkaException as error:
                note(position, error.args[0])
            except BufferError:
                waiting[position] = "the producer's queue is full"
        fatal = self._flush(producer, limit_s)
        if fatal is not None:
            return Partial(waiting, rejected, fatal)
        if len(rows) == 1 and rejected:
            return failures[0]
        is_nothing_taken = len(waiting) + len(rejected) == len(rows)
        # The limit of a topic is that of a set of messages: the spans that are too large are found by division.
        of_all = (one for one in failures if one.too_large or (is_nothing_taken and not one.invalid_content))
        return Partial(waiting, rejected, next(of_all, None))

    def _flush(self, producer: Any, limit_s: float) -> Retry | Rejected | None:  # noqa: ANN401 - no types
        """Wait for the brokers; return an error that is fatal for the producer: a missing permission, for example."""
        try:
            if producer.flush(limit_s + _GRACE_S):
                # A message that is left would be sent later, and again with the batch.
                producer.purge()
                producer.flush(_GRACE_S)
                self._discard()
        except self._library.KafkaException as error:
            return self._outcome(error.args[0])
        return None

    def _current_producer(self) -> Any:  # noqa: ANN401 - the library has no types
        if self._producer is None or self._producer[0] != os.getpid():
            if self._producer is not None:
                # librdkafka's threads do not survive a fork: a child must not even end its parent's producer.
                _inherited.append(self._producer)
            self._last_error = ""
            properties = {**self._config.properties(), "error_cb": self._note_error}
            try:
                self._producer = os.getpid(), self._library.Producer(properties, logger=_SILENT)
            except self._library.KafkaException as error:
                raise ConfigError(f"{self._label}: {self._redacted(error.args[0].str())}") from None
        return self._producer[1]

    def _redacted(self, text: str) -> str:
        config = self._config
        for secret in (*config.options.values(), *([config.sasl_password] if config.sasl_password else ())):
            text = text.replace(secret.get_secret_value(), "***")
        return text

    def _note_error(self, error: Any) -> None:  # noqa: ANN401
        # That all brokers are down follows the reason.
        if not self._last_error or error.name() not in _CONSEQUENCES:
            self._last_error = str(error.name())

    def _discard(self) -> None:
        if self._producer is not None and self._producer[0] == os.getpid():
            self._producer = None

    def _outcome(self, error: Any) -> Retry | Rejected:  # noqa: ANN401
        name = str(error.name())
        # The reason why a message timed out is that of the connection.
        cause = f", {self._last_error}" if self._last_error and self._last_error != name else ""
        reason = f"{self._label}: {name}{cause} ({error.str()})"
        if error.fatal():
            self._discard()
        if name in _TOO_LARGE:
            return Rejected(reason, too_large=True)
        if name in _INVALID:
            return Rejected(reason, invalid_content=True)
        return Rejected(reason) if name in _PERMANENT else Retry(reason)


def _messages(spans: Sequence[SpanData], form: str) -> list[Row]:
    if form == "json":
        return rows_of(spans, row_texts(spans, ROW_NAMES))
    # The encoders are imported for these formats only.
    if form == "otlp_json":
        from spancast.encoding.otlp.json_form import request_json as encode  # noqa: PLC0415 - see above
    else:
        from spancast.encoding.otlp.encode import request_bytes as encode  # noqa: PLC0415 - see above
    return [Row(span.trace_id, span.span_id, encode([span])) for span in spans]


def create(config: KafkaConfig, encoder: Encoder) -> KafkaDestination:
    """Return the destination of ``config``; it connects on first use.

    Raises:
        ConfigError: confluent-kafka is not installed.
    """
    return KafkaDestination(config, encoder, required("confluent_kafka", EXTRA))
