"""The Redis destination: an entry per span in a stream, with its ids and its row as JSON.

Source: redis.io/docs/latest/commands/xadd. A batch is one pipeline. The stream is trimmed to about ``max_length``
entries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from spancast.destinations.config import OwnFormatConfig
from spancast.destinations.field_types import Duration, Secret, Text
from spancast.destinations.optional_imports import required
from spancast.destinations.partial_delivery import Answer, Partial, PartialDelivery, Row, rows_of
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Encoder, Failed, Failure, Outcome, Payload, Rejected, Retry
from spancast.destinations.sql_rows import ROW_NAMES, row_texts

EXTRA: Final = "redis"
_SCHEMES: Final = ("redis", "rediss", "unix")
_PORT: Final = 6379
_MAX_BYTES: Final = 8 << 20
_MAX_ROW_BYTES: Final = 512_000_000
"""Redis' limit of a value is 512 MiB."""
_TEMPORARY: Final = (
    "OutOfMemoryError", "BusyLoadingError", "ReadOnlyError", "TryAgainError", "ClusterDownError", "MasterDownError",
    "AuthenticationError", "AuthenticationWrongNumberOfArgsError", "NoPermissionError",
)  # fmt: skip
"""Errors after which the entry is sent again; rights and passwords may be corrected."""
_TEMPORARY_CODES: Final = ("MISCONF", "NOREPLICAS", "BUSY", "NOGOODSLAVE")
"""The same, of which the client makes no types: the disk of the server, its replicas, a script."""
_PERMANENT: Final = ("MovedError", "AskError", "ClusterCrossSlotError")
"""The address is that of a cluster."""
_WRONG_TYPE: Final = "WRONGTYPE"


def _check_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    try:
        is_valid = parts.scheme in _SCHEMES and bool(parts.path if parts.scheme == "unix" else parts.hostname)
        is_valid = is_valid and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("must be an address, `redis://USER:PASSWORD@HOST:6379/0`, `rediss://…` or `unix://PATH`")
    return value


class RedisConfig(OwnFormatConfig, frozen=True):
    """A stream in Redis or a compatible server."""

    type: Literal["redis"]
    url: Annotated[Secret, AfterValidator(_check_url)] = Field(
        description="`redis://USER:PASSWORD@HOST:6379/0`, `rediss://…` (TLS) or `unix://PATH`."
    )
    stream: Text = Field("spancast:spans", description="Key of the stream.")
    max_length: int = Field(100_000, ge=1, description="Entries that the stream keeps, about; older ones are removed.")
    timeout: Duration = Field(10.0, description="Time limit of one delivery.")

    def place(self) -> Place:
        """Return the server, the database, the stream and the user."""
        parts = urlsplit(self.url.get_secret_value())
        server = parts.path if parts.scheme == "unix" else f"{(parts.hostname or '').rstrip('.')}:{parts.port or _PORT}"
        number = dict(parse_qsl(parts.query)).get("db") or ("" if parts.scheme == "unix" else parts.path.strip("/"))
        return Place(
            address={"server": server, "database": number or "0", "stream": self.stream},
            account={"user": unquote(parts.username) if parts.username else None},
        )


class RedisDestination:
    """Adds an entry per span; connects for the first batch."""

    def __init__(self, config: RedisConfig, encoder: Encoder, client: Any) -> None:  # noqa: ANN401 - the library's client
        self.encoder = encoder
        self._config = config
        self._client = client
        self._label = f"Redis {config.place().address['server']}, stream {config.stream}"
        self._delivery = PartialDelivery(self._label, max_rows=1024, max_bytes=_MAX_BYTES, max_row_bytes=_MAX_ROW_BYTES)

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Add an entry for each span of ``payload``."""
        rows = rows_of(payload.spans, row_texts(payload.spans, ROW_NAMES))
        return self._delivery.deliver(rows, self._add, timeout_s)

    def test_connection(self, timeout_s: float) -> Outcome:  # noqa: ARG002 - the client has its time limit
        """Read the type of the key, which tests the server, the user and the key; no entry is added."""
        kind, failure = self._attempt(lambda: self._client.type(self._config.stream))
        if failure is None and kind not in (b"none", b"stream"):
            return Rejected(f"{self._label}: the key is a {kind.decode()}")
        return failure or Delivered()

    def close(self) -> None:
        """Close the connections."""
        self._delivery.close()
        self._client.close()

    def _add(self, rows: Sequence[Row], timeout_s: float) -> Answer:  # noqa: ARG002 - the client has its time limit
        pipeline = self._client.pipeline(transaction=False)
        for row in rows:
            fields = {"trace_id": row.trace_id, "span_id": row.span_id, "span": row.body}
            pipeline.xadd(self._config.stream, fields, maxlen=self._config.max_length, approximate=True)
        replies, failure = self._attempt(lambda: pipeline.execute(raise_on_error=False))
        if failure is not None:
            return failure
        failed = {n: self._outcome(reply) for n, reply in enumerate(replies) if isinstance(reply, Exception)}
        if len(failed) == len(rows):
            return failed[0]
        return Partial({position: outcome.reason for position, outcome in failed.items()})

    def _attempt(self, act: Callable[[], Any]) -> tuple[Any, Failure | None]:
        library = required("redis.exceptions", EXTRA)
        try:
            return act(), None
        except library.RedisError as error:
            return None, self._outcome(error)

    def _outcome(self, error: Exception) -> Failure:
        kind, text = type(error).__name__, " ".join(str(error).split())[:120]
        # The text of an error of the connection may quote its address.
        library = required("redis.exceptions", EXTRA)
        is_connection = isinstance(error, (library.ConnectionError, library.TimeoutError))
        is_quoting = is_connection and kind not in _TEMPORARY
        reason = f"{self._label}: {kind}{'' if is_quoting else f' ({text})'}"
        if is_connection or kind in _TEMPORARY or text.startswith(_TEMPORARY_CODES):
            return Retry(reason)
        # Of any other error it is unknown whether a row is the cause.
        return Rejected(reason) if kind in _PERMANENT or text.startswith(_WRONG_TYPE) else Failed(reason)


def create(config: RedisConfig, encoder: Encoder) -> RedisDestination:
    """Return the destination of ``config``; it connects on first use.

    Raises:
        ConfigError: redis is not installed.
    """
    library, backoff, retry = (required(f"redis{part}", EXTRA) for part in ("", ".backoff", ".retry"))
    client = library.Redis.from_url(
        config.url.get_secret_value(),
        socket_timeout=config.timeout,
        socket_connect_timeout=config.timeout,
        # The delivery worker retries: the client would send a pipeline again that the server may have executed.
        retry=retry.Retry(backoff.NoBackoff(), 0),
        client_name=f"spancast-{os.getpid()}",
    )
    return RedisDestination(config, encoder, client)
