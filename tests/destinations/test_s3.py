"""Tests of the S3 destination with moto over a real socket, through boto3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.destinations.configs import CANARY
from tests.destinations.golden import assert_golden
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import LEAKS, START_NS, conversation, records, span
from tests.encoding.test_conventions import TOOLS
from tests.export.pipelines import pipeline_with

from spancast.destinations import aws_client, s3
from spancast.destinations.protocol import Delivered, PartlyDelivered, Rejected, Retry
from spancast.destinations.s3 import S3Config, S3Destination
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.redaction import Redaction
from spancast.model import semconv

boto3 = pytest.importorskip("boto3", reason="NO S3: boto3 is not installed")
moto = pytest.importorskip("moto.server", reason="NO S3 SERVER: moto is not installed")

BUCKET = "traces"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def bucket(url: str) -> Iterator[Any]:
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket=BUCKET)
    yield client
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


def destination(url: str, **others: Any) -> S3Destination:
    fields = {
        "type": "s3",
        "bucketName": BUCKET,
        "endpoint": url,
        "accessKeyId": "key",
        "secretAccessKey": CANARY,
        **others,
    }
    return s3.create(S3Config.model_validate(fields), ENCODER)


def objects(bucket: Any) -> dict[str, Any]:
    keys = [entry["Key"] for entry in bucket.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
    return {key: json.loads(bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read() or b"null") for key in keys}


def test_deliver_twice_writes_one_object_per_trace(url: str, bucket: Any) -> None:
    to = destination(url)
    other = span("Other", 9, trace_id="0" * 31 + "1", attributes={}, at_ms=1)
    batch = payload([*conversation(), other])
    assert [to.deliver(batch, 60), to.deliver(batch, 60)] == [Delivered(), Delivered()]
    to.close()
    found = objects(bucket)
    assert list(found) == [
        f"openrouter-traces/2026-09-29/{'0' * 31}1-{START_NS + 1_000_000}.json",
        f"openrouter-traces/2026-09-29/order_processing_001-{START_NS}.json",
    ]
    assert (
        found[f"openrouter-traces/2026-09-29/order_processing_001-{START_NS}.json"]["name"]
        == "Order Processing Pipeline"
    )


def test_deliver_in_privacy_mode_writes_no_content(url: str, bucket: Any) -> None:
    private = SpanEncoder(redaction=Redaction(is_private=True, key="p"), convention="gen_ai")
    call = span("call", 1, attributes={**TOOLS, **LEAKS}, status="error", status_message="canary")
    assert destination(url).deliver(private.payload(records([call])), 5) == Delivered()
    (content,) = objects(bucket).values()
    assert "canary" not in json.dumps(content)
    observation = content["observations"][0]
    assert (observation["promptTokens"], observation["totalCost"]) == (100, 0.00075)
    assert (content["sessionId"], content["userId"], content["metadata"]["order_id"]) == (
        "session_abc",
        "user_12345",
        "ORD-12345",
    )
    assert (content["input"], content["output"]) == (None, None)


def test_deliver_two_batches_of_a_trace_writes_two_objects(url: str, bucket: Any) -> None:
    to = destination(url)
    to.deliver(payload(conversation()[:1]), 60)
    to.deliver(payload(conversation()[1:]), 60)
    assert len(objects(bucket)) == 2


def test_object_matches_the_golden_file(url: str, bucket: Any) -> None:
    destination(url).deliver(payload(), 60)
    (content,) = objects(bucket).values()
    assert_golden("s3", content)
    assert list(content) == [
        "id",
        "name",
        "timestamp",
        "userId",
        "sessionId",
        "tags",
        "metadata",
        "input",
        "output",
        "observations",
    ]
    assert set(content["observations"][2]) >= {
        "id", "traceId", "type", "name", "parentObservationId", "startTime", "endTime", "completionStartTime", "level", "statusMessage",
        "model", "modelParameters", "input", "output", "promptTokens", "completionTokens", "totalTokens", "promptTokensDetails",
        "completionTokensDetails", "inputCost", "outputCost", "totalCost", "finishReason", "metadata",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("template", "prefix", "key"),
    [
        ("{prefix}/{year}/{month}/{day}", "p/", "p//2026/09/29/x-"),
        ("{prefix}/{date}", "", "2026-09-29/x-"),
        ("a/{apiKeyName}", "p", "a/prod_key_1-2/x-"),
        ("", "p", "x-"),
    ],
)
def test_key_follows_the_path_template(url: str, bucket: Any, template: str, prefix: str, key: str) -> None:
    to = destination(url, pathTemplate=template, prefix=prefix)
    named = {semconv.RAW_TRACE_ID: "x", semconv.TRACE_METADATA + "api_key_name": "prod/key 1-2"}
    to.deliver(payload([span("a", 1, attributes=named)]), 60)
    assert list(objects(bucket)) == [f"{key}{START_NS}.json"]


def test_key_replaces_unsafe_characters(url: str, bucket: Any) -> None:
    destination(url, path_template="{apiKeyName}").deliver(
        payload([span("a", 1, attributes={semconv.RAW_TRACE_ID: "../ä b/\n" + "x" * 200})]), 5
    )
    (key,) = objects(bucket)
    assert key.startswith("default/.._b_x")
    assert len(key) < 200


def test_path_template_with_unknown_placeholder_raises() -> None:
    with pytest.raises(ValueError, match=r"\{hour\} is unknown"):
        S3Config(type="s3", bucket="b", path_template="{hour}")


def test_connection_test_writes_an_object_or_is_rejected(url: str, bucket: Any) -> None:
    assert destination(url).test_connection(60) == Delivered()
    assert list(objects(bucket)) == ["openrouter-traces/connection-test"]
    fields = {"type": "s3", "bucket": "nowhere", "endpoint": url, "access_key_id": "k", "secret_access_key": "s"}
    to = s3.create(S3Config.model_validate(fields), ENCODER)
    assert to.test_connection(60) == Rejected("S3: NoSuchBucket (HTTP 404) for bucket nowhere")


def test_deliver_to_unreachable_server_is_retried() -> None:
    outcome = destination("http://user:secret@127.0.0.1:9", timeout=60).deliver(payload(), 60)
    assert outcome == Retry("S3: EndpointConnectionError at http://***@127.0.0.1:9")


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (503, "SlowDown", Retry("S3: SlowDown (HTTP 503) for bucket b", 7.0)),
        (500, "InternalError", Retry("S3: InternalError (HTTP 500) for bucket b", 7.0)),
        (400, "RequestTimeout", Retry("S3: RequestTimeout (HTTP 400) for bucket b", 7.0)),
        (429, "Other", Retry("S3: Other (HTTP 429) for bucket b", 7.0)),
        # As every destination: rights and keys may be corrected, so spans stay queued.
        (403, "AccessDenied", Retry("S3: AccessDenied (HTTP 403) for bucket b", 7.0)),
        (400, "ExpiredToken", Retry("S3: ExpiredToken (HTTP 400) for bucket b", 7.0)),
        (401, "Other", Retry("S3: Other (HTTP 401) for bucket b", 7.0)),
        (404, "NoSuchBucket", Rejected("S3: NoSuchBucket (HTTP 404) for bucket b")),
        (400, "EntityTooLarge", Rejected("S3: EntityTooLarge (HTTP 400) for bucket b", too_large=True)),
    ],
)
def test_outcome_of_error_response(status: int, code: str, outcome: object) -> None:
    response = {
        "Error": {"Code": code},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "7"}},
    }
    assert aws_client._outcome(response, "S3", "for bucket b") == outcome


def test_deliver_signs_headers_and_hides_credentials(url: str, bucket: Any, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []
    to = destination(url, headers={"X-Team": "search"}, session_token="t")
    to._client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.headers))
    to.deliver(payload(), 60)
    assert sent[0]["X-Team"] in ("search", b"search")
    authorization = sent[0]["Authorization"]
    assert "x-team" in (authorization.decode() if isinstance(authorization, bytes) else authorization)
    assert CANARY not in repr(to._config) + caplog.text + str(sent[0])


def test_time_limit_ends_the_delivery_between_two_objects(url: str, bucket: Any) -> None:
    batch = [span("a", number, trace_id=f"{number:032x}", attributes={}, at_ms=number) for number in (1, 2, 3)]
    to = destination(url)
    outcome = to.deliver(payload(batch), 0)
    assert isinstance(outcome, PartlyDelivered)
    assert outcome.delivered == {(f"{1:032x}", f"{1:016x}")}
    assert outcome.rest == Retry("S3 bucket traces: time limit of 0 s")
    assert len(objects(bucket)) == 1


def test_deliver_writes_all_span_fields(url: str, bucket: Any) -> None:
    destination(url).deliver(payload(), 60)
    (content,) = objects(bucket).values()
    assert content == s3.trace_object(sorted(payload().spans, key=lambda one: one.start_ns))


@pytest.mark.parametrize("position", [0, 100, 200])
def test_deliver_with_undecodable_span_dead_letters_only_that_span(position: int, url: str, bucket: Any) -> None:
    batch = records([span("a", number + 1, at_ms=number) for number in range(201)])
    odd = batch[position]
    odd.body = b"\x0b" + odd.body
    pipeline = pipeline_with({"one": destination(url)}, None)
    pipeline.spool.put(batch, {})
    pipeline._start()
    report = pipeline.flush(60)
    counts = report.destinations["one"]
    assert (counts.delivered, counts.dead_lettered, counts.queued) == (200, 1, 0), str(report)
    [buried] = pipeline.spool.dead_letters()
    assert buried.span_id == odd.span_id.hex()
    assert buried.reason.startswith("JSONDecodeError in encoding.")
    written = [one["id"] for content in objects(bucket).values() for one in content["observations"]]
    assert sorted(written) == sorted(one.span_id.hex() for one in batch if one is not odd), "each once"
    pipeline.shutdown()


def test_deliver_unusual_attributes_writes_the_object(url: str, bucket: Any) -> None:
    odd: dict[str, Any] = {
        semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: ["m"], semconv.USAGE_INPUT_TOKENS: "12",
        semconv.USAGE_OUTPUT_TOKENS: 2**63 - 1, semconv.SESSION_ID: ["a"], semconv.RESPONSE_TIME_TO_FIRST_CHUNK: "0.5",
    }  # fmt: skip
    assert destination(url).deliver(payload([span("a", 1, attributes=odd)]), 5) == Delivered()
    (content,) = objects(bucket).values()
    (call,) = content["observations"]
    assert (content["sessionId"], call["model"], call["completionStartTime"]) == (
        '["a"]', '["m"]', "2026-09-29T12:00:00.500Z",
    )  # fmt: skip
    assert (call["promptTokens"], call["completionTokens"], call["totalTokens"]) == (12, 2**63 - 1, None)


ROLE = "arn:aws:iam::123456789012:role/writer"


def test_deliver_assumes_the_role_with_the_external_id(url: str, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
    # OpenRouter's names.
    to = destination(url, authMode="iam_role", roleArn=ROLE, externalId="e-1", region="us-east-1", provider="other")
    requests: list[Any] = []
    to._client.meta.events.register("before-send.s3", lambda request, **_: requests.append(request.headers))
    assert [to.deliver(payload(), 60), to.deliver(payload(), 60)] == [Delivered(), Delivered()]
    to.close()
    assert all(request["X-Amz-Security-Token"] for request in requests)
    assert all(b"Credential=key/" not in request["Authorization"] for request in requests)
    assert len(objects(bucket)) == 1


def test_role_that_cannot_be_assumed_is_a_clear_outcome(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    to = destination(url, roleArn=ROLE, timeout=60)
    assert to.deliver(payload(), 60) == Retry(f"S3: EndpointConnectionError at {url}")


@pytest.mark.parametrize(
    ("fields", "server"),
    [
        ({}, None),
        ({"provider": "aws"}, None),
        ({"provider": "gcs"}, "https://storage.googleapis.com"),
        ({"provider": "huggingface", "namespace": "my-org"}, "https://s3.hf.co/my-org"),
        ({"provider": "cloudflare_r2", "endpoint": "https://a.r2.test"}, "https://a.r2.test"),
    ],
)
def test_provider_sets_the_server(fields: dict[str, Any], server: str | None) -> None:
    assert S3Config.model_validate({"type": "s3", "bucket": "b", **fields}).server == server


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"provider": "huggingface"}, "namespace"),
        ({"provider": "other"}, "endpoint"),
        ({"authMode": "iam_role"}, "role_arn"),
    ],
)
def test_provider_or_role_without_its_field_raises(fields: dict[str, Any], missing: str) -> None:
    with pytest.raises(ValueError, match=f"{missing}\n  is missing"):
        S3Config.model_validate({"type": "s3", "bucket": "b", **fields})
