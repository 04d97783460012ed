"""The Firehose destination with moto over a real socket, and with botocore's stubs for partial failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.destinations.configs import CANARY
from tests.destinations.conftest import Explained
from tests.destinations.golden import assert_golden
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import conversation, records, span
from tests.export.pipelines import pipeline_with
from tests.ports import own_port

from spancast.destinations import firehose, partial_delivery
from spancast.destinations.firehose import FirehoseConfig, FirehoseDestination
from spancast.destinations.protocol import Delivered, PartlyDelivered, Rejected, Retry
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.redaction import Redaction
from spancast.testing import check_destination

boto3 = pytest.importorskip("boto3", reason="NO FIREHOSE: boto3 is not installed")
moto = pytest.importorskip("moto.server", reason="NO FIREHOSE SERVER: moto is not installed")
stub = pytest.importorskip("botocore.stub")

BUCKET, STREAM = "landing", "spans"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_delivery, "_PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def bucket(url: str) -> Iterator[Any]:
    fields = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    s3, service = boto3.client("s3", **fields), boto3.client("firehose", **fields)
    s3.create_bucket(Bucket=BUCKET)
    service.create_delivery_stream(
        DeliveryStreamName=STREAM,
        S3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/f",
            "BucketARN": f"arn:aws:s3:::{BUCKET}",
        },
    )
    yield s3
    service.delete_delivery_stream(DeliveryStreamName=STREAM)
    for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
    s3.delete_bucket(Bucket=BUCKET)
    s3.close()
    service.close()


def fields(url: str, **others: Any) -> dict[str, Any]:
    return {
        "type": "firehose", "deliveryStreamName": STREAM, "endpoint": url, "accessKeyId": "key",
        "secretAccessKey": CANARY, "timeout": 60, **others,
    }  # fmt: skip


def destination(url: str, **others: Any) -> FirehoseDestination:
    return firehose.create(FirehoseConfig.model_validate(fields(url, **others)), ENCODER)


def lines(bucket: Any) -> list[dict[str, Any]]:
    keys = [entry["Key"] for entry in bucket.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
    texts = [bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode() for key in keys]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_record_is_a_line_of_json(url: str, bucket: Any) -> None:
    to = destination(url)
    assert to.test_connection(60) == Delivered()
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    found = lines(bucket)
    assert [row["span_id"] for row in found] == [one.span_id for one in conversation()]
    assert (found[0]["prompt_tokens"], found[0]["total_cost"], found[0]["tags"]) == (100, 0.00075, [])


def test_records_match_the_golden_file(url: str, bucket: Any) -> None:
    to = destination(url)
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    assert_golden("firehose", lines(bucket))


def test_missing_stream_is_rejected_with_the_services_words(url: str, bucket: Any) -> None:
    to = destination(url, deliveryStreamName="nowhere")
    reason = "Firehose: ResourceNotFoundException (HTTP 400) for stream nowhere"
    assert [to.deliver(payload(), 60), to.test_connection(60)] == [Rejected(reason), Rejected(reason)]
    to.close()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "AccessDeniedException", Retry), (400, "UnrecognizedClientException", Retry), (403, "Other", Retry),
        (503, "ServiceUnavailableException", Retry), (400, "ThrottlingException", Retry),
        (400, "InvalidArgumentException", Rejected), (400, "InvalidKMSResourceException", Rejected),
        (400, "InvalidSourceException", Rejected),
    ],
)  # fmt: skip
def test_outcome_of_an_error(status: int, code: str, kind: type, url: str) -> None:
    to = destination(url)
    with stub.Stubber(to._client) as answers:
        answers.add_client_error("put_record_batch", code, "no", status)
        outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, kind)
    assert outcome.reason == f"Firehose: {code} (HTTP {status}) for stream spans"
    to.close()


def test_only_records_that_were_not_taken_are_put_again(url: str) -> None:
    """Of four records the second and fourth fail, then the fourth; each request has just what is left."""
    to = destination(url)
    taken, busy = {"RecordId": "1"}, {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
    records_of = [f"{text}\n".encode() for text in firehose.row_texts(conversation(), firehose.ROW_NAMES)]

    def asked(*positions: int) -> dict[str, Any]:
        return {"DeliveryStreamName": STREAM, "Records": [{"Data": records_of[position]} for position in positions]}

    with stub.Stubber(to._client) as answers:
        add = answers.add_response
        add(
            "put_record_batch", {"FailedPutCount": 2, "RequestResponses": [taken, busy, taken, busy]}, asked(0, 1, 2, 3)
        )
        add("put_record_batch", {"FailedPutCount": 1, "RequestResponses": [taken, busy]}, asked(1, 3))
        add("put_record_batch", {"FailedPutCount": 1, "RequestResponses": [busy]}, asked(3))
        outcome = to.deliver(payload(), 60)
        ids = [(one.trace_id, one.span_id) for one in payload().spans]
        reason = "Firehose: 1 of 4 rows were not taken: ServiceUnavailableException: Slow down."
        assert outcome == PartlyDelivered(Retry(reason), frozenset(ids[:3]))
        answers.assert_no_pending_responses()
    to.close()


def test_call_stays_within_the_limits(url: str, bucket: Any) -> None:
    """4 MiB a call and 500 records; moto checks neither."""
    calls: list[tuple[int, int]] = []
    to = destination(url)
    to._client.meta.events.register(
        "provide-client-params.firehose.PutRecordBatch",
        lambda params, **_: calls.append((len(params["Records"]), sum(len(one["Data"]) for one in params["Records"]))),
    )
    texts = [span("a", number + 1, attributes={"spancast.request.text": "x" * 450_000}) for number in range(10)]
    assert to.deliver(payload(texts), 60) == Delivered()
    to.close()
    assert sum(count for count, _ in calls) == 10
    assert len(calls) == 3
    assert all(size <= 4 << 20 for _, size in calls)


def test_span_over_the_limit_of_a_record_is_truncated(url: str, bucket: Any) -> None:
    class Encoding:
        """The destination with the real encoder, which can truncate."""

        def __init__(self, to: FirehoseDestination) -> None:
            self.encoder = SpanEncoder(redaction=Redaction(), convention="gen_ai", only_genai=False)
            self.deliver, self.test_connection, self.close = to.deliver, to.test_connection, to.close

    batch = [
        span("a", n + 1, attributes={"spancast.request.text": "x" * (1_100_000 if n == 2 else 1)}) for n in range(5)
    ]
    pipeline = pipeline_with({"one": Encoding(destination(url))}, None)
    pipeline.spool.put(records(batch), {})
    pipeline._start()
    report = pipeline.flush(60).destinations["one"]
    assert (report.delivered, report.dead_lettered, report.queued) == (5, 0, 0)
    pipeline.shutdown()
    assert sorted(row["span_id"] for row in lines(bucket)) == [f"{n + 1:016x}" for n in range(5)]


def test_connection_test_without_the_right_passes_with_a_message(url: str) -> None:
    to = destination(url)
    with stub.Stubber(to._client) as answers:
        answers.add_client_error("describe_delivery_stream", "AccessDeniedException", "no", 400)
        assert to.test_connection(60) == Delivered(message="not tested: no right firehose:DescribeDeliveryStream")
    to.close()


def test_contract(url: str, bucket: Any) -> None:
    check_destination(
        lambda: fields(url), unreachable=lambda: fields(f"http://127.0.0.1:{own_port()}"), secrets=[CANARY]
    )
    assert len(lines(bucket)) == 6


def test_explain_follows_a_span(url: str, bucket: Any, explained: Explained) -> None:
    assert explained(fields(url))[0] == "delivered"
    state, reason = explained(fields(url, deliveryStreamName="missing"))
    assert (state, "ResourceNotFoundException" in reason) == ("dead_lettered", True)
    state, reason = explained(fields(f"http://127.0.0.1:{own_port()}"), is_away=True)
    assert (state, "EndpointConnectionError" in reason) == ("queued", True)
    assert len(lines(bucket)) == 1
