"""Against moto's S3 over a real socket, through boto3."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.configs import CANARY
from tests.destinations.payloads import VIEW, payload
from tests.destinations.spans import LEAKS, START_NS, conversation, records, span
from tests.encoding.test_conventions import TOOLS
from tests.export.pipelines import broadcast_with

from spancast.destinations import s3
from spancast.destinations.protocol import Delivered, Rejected, Retry
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
    return s3.create(S3Config.model_validate(fields), VIEW)


def objects(bucket: Any) -> dict[str, Any]:
    keys = [entry["Key"] for entry in bucket.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
    return {key: json.loads(bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read() or b"null") for key in keys}


def test_an_object_per_trace_under_the_same_key_however_often_it_came(url: str, bucket: Any) -> None:
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


def test_privacy_mode_reaches_the_object(url: str, bucket: Any) -> None:
    private = SpanEncoder(redaction=Redaction(is_private=True, key="p"), convention="gen_ai")
    call = span("call", 1, attributes={**TOOLS, **LEAKS}, status="error", status_message="canary")
    assert destination(url).deliver(private.payload(records([call])), 5) == Delivered()
    (told,) = objects(bucket).values()
    assert "canary" not in json.dumps(told)
    observation = told["observations"][0]
    assert (observation["promptTokens"], observation["totalCost"]) == (100, 0.00075)
    assert (told["sessionId"], told["userId"], told["metadata"]["order_id"]) == (
        "session_abc",
        "user_12345",
        "ORD-12345",
    )
    assert (told["input"], told["output"]) == (None, None)


def test_two_batches_of_one_trace_are_two_objects(url: str, bucket: Any) -> None:
    to = destination(url)
    to.deliver(payload(conversation()[:1]), 60)
    to.deliver(payload(conversation()[1:]), 60)
    assert len(objects(bucket)) == 2


def test_the_shape_of_openrouters_example(url: str, bucket: Any) -> None:
    destination(url).deliver(payload(), 60)
    (told,) = objects(bucket).values()
    golden = Path(__file__).parents[1] / "golden" / "destinations" / "s3.json"
    if os.environ.get("SPANCAST_GOLDEN") == "write":
        golden.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    assert json.loads(golden.read_text()) == told
    assert list(told) == [
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
    assert set(told["observations"][2]) >= {
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
def test_key_templates(url: str, bucket: Any, template: str, prefix: str, key: str) -> None:
    to = destination(url, pathTemplate=template, prefix=prefix)
    named = {semconv.RAW_TRACE_ID: "x", semconv.TRACE_METADATA + "api_key_name": "prod/key 1-2"}
    to.deliver(payload([span("a", 1, attributes=named)]), 60)
    assert list(objects(bucket)) == [f"{key}{START_NS}.json"]


def test_ids_are_made_safe_for_keys(url: str, bucket: Any) -> None:
    destination(url, path_template="{apiKeyName}").deliver(
        payload([span("a", 1, attributes={semconv.RAW_TRACE_ID: "../ä b/\n" + "x" * 200})]), 5
    )
    (key,) = objects(bucket)
    assert key.startswith("default/.._b_x")
    assert len(key) < 200


def test_unknown_placeholders() -> None:
    with pytest.raises(ValueError, match=r"\{hour\} is unknown"):
        S3Config(type="s3", bucket="b", path_template="{hour}")


def test_connection(url: str, bucket: Any) -> None:
    assert destination(url).test_connection(60) == Delivered()
    assert list(objects(bucket)) == ["openrouter-traces/connection-test"]
    fields = {"type": "s3", "bucket": "nowhere", "endpoint": url, "access_key_id": "k", "secret_access_key": "s"}
    to = s3.create(S3Config.model_validate(fields), VIEW)
    assert to.test_connection(60) == Rejected("S3: NoSuchBucket (HTTP 404) for bucket nowhere")


def test_a_server_that_is_not_there_is_tried_again() -> None:
    outcome = destination("http://user:secret@127.0.0.1:9", timeout=60).deliver(payload(), 60)
    assert outcome == Retry("S3: EndpointConnectionError at http://***@127.0.0.1:9")


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (503, "SlowDown", Retry("S3: SlowDown (HTTP 503) for bucket b", 7.0)),
        (500, "InternalError", Retry("S3: InternalError (HTTP 500) for bucket b", 7.0)),
        (400, "RequestTimeout", Retry("S3: RequestTimeout (HTTP 400) for bucket b", 7.0)),
        (429, "Other", Retry("S3: Other (HTTP 429) for bucket b", 7.0)),
        (403, "AccessDenied", Rejected("S3: AccessDenied (HTTP 403) for bucket b")),
        (400, "EntityTooLarge", Rejected("S3: EntityTooLarge (HTTP 400) for bucket b", too_large=True)),
    ],
)
def test_what_comes_of_an_error(status: int, code: str, outcome: object) -> None:
    response = {
        "Error": {"Code": code},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "7"}},
    }
    assert s3._outcome(response, "b") == outcome


def test_own_headers_are_signed_and_no_credential_is_shown(
    url: str, bucket: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    to = destination(url, headers={"X-Team": "search"}, session_token="t")
    to._client.meta.events.register("before-send.s3", lambda request, **_: seen.append(request.headers))
    to.deliver(payload(), 60)
    assert seen[0]["X-Team"] in ("search", b"search")
    authorization = seen[0]["Authorization"]
    assert "x-team" in (authorization.decode() if isinstance(authorization, bytes) else authorization)
    assert CANARY not in repr(to._config) + caplog.text + str(seen[0])


def test_spans_arrive_as_they_were(url: str, bucket: Any) -> None:
    destination(url).deliver(payload(), 60)
    (told,) = objects(bucket).values()
    assert told == s3.trace_object(sorted(payload().spans, key=lambda one: one.start_ns))


@pytest.mark.parametrize("position", [0, 100, 200])
def test_one_span_that_cannot_be_read_is_dead_lettered_and_the_others_are_put(
    position: int, url: str, bucket: Any
) -> None:
    made = records([span("a", number + 1, at_ms=number) for number in range(201)])
    odd = made[position]
    odd.body = b"\x0b" + odd.body
    pipeline = broadcast_with({"one": destination(url)}, None)
    pipeline.spool.put(made, {})
    pipeline._start()
    report = pipeline.flush(60)
    told = report.destinations["one"]
    assert (told.delivered, told.refused, told.waiting) == (200, 1, 0), str(report)
    [buried] = pipeline.spool.buried()
    assert buried.span_id == odd.span_id.hex()
    assert buried.reason.startswith("JSONDecodeError in destinations.")
    put = [one["id"] for told in objects(bucket).values() for one in told["observations"]]
    assert sorted(put) == sorted(one.span_id.hex() for one in made if one is not odd), "each once"
    pipeline.shutdown()


def test_odd_attributes_are_put_like_any_other(url: str, bucket: Any) -> None:
    odd: dict[str, Any] = {
        semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: ["m"], semconv.USAGE_INPUT_TOKENS: "12",
        semconv.USAGE_OUTPUT_TOKENS: 2**63 - 1, semconv.SESSION_ID: ["a"], semconv.RESPONSE_TIME_TO_FIRST_CHUNK: "0.5",
    }  # fmt: skip
    assert destination(url).deliver(payload([span("a", 1, attributes=odd)]), 5) == Delivered()
    (told,) = objects(bucket).values()
    (call,) = told["observations"]
    assert (told["sessionId"], call["model"], call["completionStartTime"]) == (
        '["a"]', '["m"]', "2026-09-29T12:00:00.500Z",
    )  # fmt: skip
    assert (call["promptTokens"], call["completionTokens"], call["totalTokens"]) == (12, 2**63 - 1, None)
