"""The Amazon Data Firehose destination: a record of one JSON row and a newline per span.

Source: botocore's model of Firehose (``PutRecordBatch``): at most 500 records and 4 MiB a call, 1,024,000 bytes a
record. Records that the service did not take are in an answer with HTTP 200.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from pydantic import AliasChoices, Field

from spancast.destinations.aws_client import AwsConfig, call, client_of
from spancast.destinations.field_types import Text
from spancast.destinations.partial_delivery import Answer, Partial, PartialDelivery, Row, rows_of
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Encoder, Outcome, Payload, Rejected, Retry
from spancast.destinations.sql_rows import ROW_NAMES, row_texts

EXTRA: Final = "firehose"
MAX_RECORDS: Final = 500
MAX_BYTES: Final = 4 << 20
MAX_RECORD_BYTES: Final = 1_024_000
_PRODUCT: Final = "Firehose"
_ACTIVE: Final = "ACTIVE"


class FirehoseConfig(AwsConfig, frozen=True):
    """A stream of Amazon Data Firehose."""

    type: Literal["firehose"]
    stream: Text = Field(
        validation_alias=AliasChoices("stream", "delivery_stream_name", "deliveryStreamName"),
        description="Name of the Firehose stream.",
    )

    def place(self) -> Place:
        """Return the stream and its region."""
        # Two accounts may have streams of the same name.
        key = None if self.session_token else self.access_key_id
        place = self.network_place(
            self.endpoint or "https://firehose.amazonaws.com",
            account={"access_key_id": None if self.role_arn else key, "role_arn": self.role_arn},
        )
        return replace(place, address={**place.address, "region": self.region, "stream": self.stream})


class FirehoseDestination:
    """Puts a record per span."""

    max_batch_spans = MAX_RECORDS

    def __init__(self, config: FirehoseConfig, encoder: Encoder, client: Any) -> None:  # noqa: ANN401 - boto3 has no types
        self.encoder = encoder
        self._config = config
        self._client = client
        self._delivery = PartialDelivery(
            _PRODUCT, max_rows=MAX_RECORDS, max_bytes=MAX_BYTES, max_row_bytes=MAX_RECORD_BYTES
        )

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Put the records of ``payload``; those that were not taken are put again."""
        rows = rows_of(payload.spans, row_texts(payload.spans, ROW_NAMES), end="\n")
        return self._delivery.deliver(rows, self._put, timeout_s)

    def test_connection(self, timeout_s: float) -> Outcome:  # noqa: ARG002 - the client has its time limit
        """Read the state of the stream; without the right to do so, nothing is tested."""
        describe = functools.partial(
            self._client.describe_delivery_stream, DeliveryStreamName=self._config.stream, Limit=1
        )
        answer, failure = self._call(describe)
        if failure is not None:
            is_denied = isinstance(failure, Retry) and "AccessDenied" in failure.reason
            return Delivered(message="not tested: no right firehose:DescribeDeliveryStream") if is_denied else failure
        described = answer.get("DeliveryStreamDescription", {})
        state = described.get("DeliveryStreamStatus", "not described")
        return Delivered() if state == _ACTIVE else Retry(f"{_PRODUCT}: the stream {self._config.stream} is {state}")

    def close(self) -> None:
        """Close the connections."""
        self._delivery.close()
        self._client.close()

    def _put(self, rows: Sequence[Row], timeout_s: float) -> Answer:  # noqa: ARG002 - the client has its time limit
        records = [{"Data": row.body} for row in rows]
        answer, failure = self._call(
            functools.partial(self._client.put_record_batch, DeliveryStreamName=self._config.stream, Records=records)
        )
        if failure is not None:
            return failure
        settled = answer.get("RequestResponses", ())
        if len(settled) != len(rows):
            return Retry(f"{_PRODUCT}: an answer for {len(settled)} of {len(rows)} records")
        # A record is taken if it has an id.
        return Partial(
            {
                position: f"{one.get('ErrorCode', 'no id')}: {one.get('ErrorMessage', '')}"
                for position, one in enumerate(settled)
                if "RecordId" not in one
            }
        )

    def _call(self, act: Any) -> tuple[Any, Retry | Rejected | None]:  # noqa: ANN401 - boto3 has no types
        return call(act, _PRODUCT, f"for stream {self._config.stream}", self._config.endpoint)


def create(config: FirehoseConfig, encoder: Encoder) -> FirehoseDestination:
    """Return the destination of ``config``.

    Raises:
        ConfigError: boto3 is not installed.
    """
    return FirehoseDestination(config, encoder, client_of("firehose", config, config.endpoint, EXTRA))
