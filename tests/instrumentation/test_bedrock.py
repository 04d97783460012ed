"""boto3 and aiobotocore: what the contract suite does not know of them."""

from __future__ import annotations

import gc
import io
import json
from typing import Any

import pytest
from tests.instrumentation.bedrock_drivers import BODIES, CONVERSE, OPTIONS, make, make_async

import spancast
from spancast.diagnostics import reraise_internal_errors
from spancast.dialects.bedrock_converse.answers import converse_answer, converse_events
from spancast.dialects.bedrock_invoke.reader import BedrockInvoke
from spancast.errors import ConfigError
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

boto3 = pytest.importorskip("boto3")
pytest.importorskip("aiobotocore")

from botocore.eventstream import EventStream  # noqa: E402
from botocore.exceptions import ClientError, EventStreamError, ParamValidationError, ResponseStreamingError  # noqa: E402
from botocore.response import StreamingBody  # noqa: E402
from botocore.stub import Stubber  # noqa: E402

INVOKE = {"modelId": "m-1", "body": json.dumps(BODIES["llama"])}
LLAMA = {"generation": "Hello there", "prompt_token_count": 9, "generation_token_count": 2, "stop_reason": "stop"}
TEXT = [{"role": "assistant", "parts": [{"type": "text", "content": "Hello there"}], "finish_reason": "stop"}]
HEADERS = {
    "x-amzn-RequestId": "r-1", "X-Amzn-Bedrock-Input-Token-Count": "9", "X-Amzn-Bedrock-Output-Token-Count": "2",
    "X-Amzn-Bedrock-Cache-Read-Input-Token-Count": "100", "X-Amzn-Bedrock-Invocation-Latency": "300",
}  # fmt: skip


@pytest.fixture
def client(server: ReplayServer) -> Any:
    return spancast.instrument(make(server))


@pytest.fixture
async def async_client(server: ReplayServer) -> Any:
    made = spancast.instrument(make_async(server))
    yield made
    await made.close()


def events(**more: Any) -> list[dict[str, Any]]:
    return converse_events(converse_answer("Hello there", **more))


# --- the body of invoke_model() ------------------------------------------------------------------------
READS = {
    "at once": lambda body: body.read(),
    "in pieces": lambda body: b"".join(iter(lambda: body.read(7), b"")),
    "chunks": lambda body: b"".join(body.iter_chunks(7)),
    "lines": lambda body: b"".join(body.iter_lines(7)),
    "iterated": b"".join,
    "next": lambda body: b"".join(iter(lambda: next(body, b""), b"")),
    "read lines": lambda body: b"".join(body.readlines()),
    "json": lambda body: json.dumps(json.load(body)).encode(),
    "with": lambda body: read_raw(body),
    "into": lambda body: read_into(body),
    "as a file": lambda body: io.BufferedReader(body).read(),
}


def read_raw(body: Any) -> bytes:
    with body as raw:
        return raw.read()


def read_into(body: Any) -> bytes:
    buffer, found = bytearray(7), b""
    while size := body.readinto(buffer):
        found += buffer[:size]
    return found


@pytest.mark.parametrize("way", READS)
def test_body_read_in_any_way_is_recorded(way: str, client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.json(LLAMA, headers=HEADERS))
    result = client.invoke_model(**INVOKE)
    body = result["body"]
    assert spans.all() == []
    assert type(body) is StreamingBody
    assert json.loads(READS[way](body)) == LLAMA
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"] == TEXT
    assert found["gen_ai.usage.input_tokens"] == 9
    assert found["gen_ai.response.id"] == "r-1"
    assert found["spancast.response.invocationLatency"] == 300
    assert "spancast.response.incomplete" not in found
    assert "gen_ai.request.stream" not in found


def test_body_that_is_never_read_has_the_usage_of_the_headers(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.json(LLAMA, headers=HEADERS))
    client.invoke_model(**INVOKE)["body"].close()
    found = attributes(spans.one())
    assert found["spancast.response.incomplete"] == "closed"
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (109, 2)


def test_body_that_is_dropped_is_recorded(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.json(LLAMA, headers=HEADERS))
    client.invoke_model(**INVOKE)["body"].read(7)
    gc.collect()
    assert attributes(spans.one())["spancast.response.incomplete"] == "abandoned"


def test_body_that_is_cut_fails(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\nx-amzn-RequestId: r-1\r\n\r\n"
    server.reply(Reply.raw(head + b'{"generation": "Hel'))
    body = client.invoke_model(**INVOKE)["body"]
    with pytest.raises(ResponseStreamingError) as caught:
        body.read()
    span = spans.one()
    # The cause of botocore's exception.
    assert attributes(span)["error.type"] == "urllib3.ProtocolError"
    assert str(span.status.description) in str(caught.value)


async def test_asynchronous_body_is_recorded_in_any_way(
    async_client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    async def in_chunks(body: Any) -> bytes:
        return b"".join([chunk async for chunk in body.iter_chunks(7)])

    async def in_lines(body: Any) -> bytes:
        return b"".join([line async for line in body.iter_lines()])

    async def within(body: Any) -> bytes:
        async with body as same:
            return await same.read()

    ways = (lambda body: body.read(), in_chunks, in_lines, within)
    for number, way in enumerate(ways, 1):
        server.reply(Reply.json(LLAMA, headers=HEADERS))
        result = await async_client.invoke_model(**INVOKE)
        assert json.loads(await way(result["body"])) == LLAMA
        assert len(spans.all()) == number
        assert attributes(spans.all()[-1])["gen_ai.output.messages"] == TEXT
    server.reply(Reply.json(LLAMA, headers=HEADERS))
    result = await async_client.invoke_model(**INVOKE)
    result["body"].close()
    assert attributes(spans.all()[-1])["spancast.response.incomplete"] == "closed"


# --- event streams ---------------------------------------------------------------------------------------
def test_stream_stays_the_object_of_botocore(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.stream(events(reasoning="Think.", tool_calls=[("weather", {"city": "Oslo"})]), aws="events"))
    result = client.converse_stream(**CONVERSE)
    assert type(result["stream"]) is EventStream
    assert list(result["stream"]) == events(reasoning="Think.", tool_calls=[("weather", {"city": "Oslo"})])
    assert list(result["stream"]) == []
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"] == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Think."},
                {"type": "text", "content": "Hello there"},
                {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Oslo"}},
            ],
            "finish_reason": "tool_call",
        }
    ]
    assert found["gen_ai.usage.input_tokens"] == 25


@pytest.mark.parametrize("method", ["converse_stream", "invoke_model_with_response_stream"])
def test_exception_in_a_stream_ends_the_call_at_once(
    method: str, client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    if method == "converse_stream":
        begun, given, framing, field = events()[:2], CONVERSE, "events", "stream"
    else:
        begun, given, framing, field = [{"generation": "Hel", "stop_reason": None}], INVOKE, "chunks", "body"
    server.reply(Reply.stream([*begun, {"throttlingException": {"message": "Slow down."}}], aws=framing))
    stream = getattr(client, method)(**given)[field]
    with pytest.raises(EventStreamError) as caught:
        list(stream)
    assert caught.value.response["Error"]["Code"] == "throttlingException"
    # The stream is still alive.
    span = spans.one()
    found = attributes(span)
    assert found["error.type"] == "throttlingException"
    assert span.status.description == "Slow down."
    assert found["gen_ai.response.finish_reasons"] == ["error"]
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"].startswith("Hel")
    assert found["spancast.response.incomplete"] == "failed"
    stream.close()
    assert len(spans.all()) == 1


def test_stream_left_at_its_last_event_is_complete(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.stream(events(), aws="events"))
    stream = client.converse_stream(**CONVERSE)["stream"]
    for event in stream:
        if "metadata" in event:
            break
    stream.close()
    found = attributes(spans.one())
    assert "spancast.response.incomplete" not in found
    assert found["gen_ai.usage.output_tokens"] == 10


def test_stream_closed_early_keeps_what_arrived(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.stream(events(), aws="events"))
    stream = client.converse_stream(**CONVERSE)["stream"]
    for event in stream:
        if "contentBlockDelta" in event:
            break
    stream.close()
    found = attributes(spans.one())
    assert found["spancast.response.incomplete"] == "closed"
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == "Hello "


def test_stream_that_ends_without_a_stop_reason_is_cut(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.stream(events()[:3], aws="events"))
    list(client.converse_stream(**CONVERSE)["stream"])
    found = attributes(spans.one())
    assert found["spancast.response.incomplete"] == "cut"
    assert found["error.type"] == "incomplete_stream"


# --- calls ------------------------------------------------------------------------------------------------
def test_error_has_the_code_of_aws(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    error = {"message": "Too many requests, please wait before trying again."}
    kind = {"x-amzn-ErrorType": "ThrottlingException:http://internal.amazon.com/coral/", "x-amzn-RequestId": "r-9"}
    server.reply(Reply.error(429, error, headers=kind))
    with pytest.raises(client.exceptions.ThrottlingException):
        client.converse(**CONVERSE)
    span = spans.one()
    found = attributes(span)
    assert found["error.type"] == "ThrottlingException"
    assert (found["spancast.response.status_code"], found["spancast.response.request_id"]) == (429, "r-9")
    assert found["gen_ai.input.messages"][0]["parts"] == [{"type": "text", "content": "hi"}]
    assert error["message"] in str(span.status.description)


def test_retries_are_one_call(server: ReplayServer, spans: CapturedSpans) -> None:
    client = spancast.instrument(make(server, attempts=3))
    server.reply("/converse", Reply.error(503), Reply.error(503))
    assert client.converse(**CONVERSE)["ResponseMetadata"]["RetryAttempts"] == 2
    assert len(server.requests) == 3
    assert attributes(spans.one())["spancast.response.retry_attempts"] == 2


def test_invalid_parameter_is_the_error_of_botocore(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    with pytest.raises(ParamValidationError, match="unknown") as caught:
        client.converse(**CONVERSE, unknown=1, trace={"feature": "x"})
    assert '"trace"' not in str(caught.value).partition("must be one of")[0]
    found = attributes(spans.one())
    assert found["error.type"] == "botocore.ParamValidationError"
    assert found["trace.metadata.feature"] == "x"
    assert server.requests == []


def test_trace_of_invoke_model_is_bedrocks_own(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    given = {"guardrailIdentifier": "gr-1", "guardrailVersion": "1", "trace": "ENABLED"}
    client.invoke_model(**INVOKE, **given, session_id="chat-42")["body"].read()
    sent = server.requests[0].headers
    assert (sent["x-amzn-bedrock-trace"], sent["x-amzn-bedrock-guardrailidentifier"]) == ("ENABLED", "gr-1")
    found = attributes(spans.one())
    assert found["session.id"] == "chat-42"
    assert found["aws.bedrock.guardrail.id"] == "gr-1"
    assert found["spancast.request.guardrailTrace"] == "ENABLED"
    assert "spancast.validation_errors" not in found
    client.invoke_model(**INVOKE, trace={"feature": "billing"})["body"].read()
    assert "x-amzn-bedrock-trace" not in server.requests[1].headers
    assert attributes(spans.all()[-1])["trace.metadata.feature"] == "billing"


def test_region_and_provider_are_those_of_the_client(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    client.converse(**CONVERSE)
    found = attributes(spans.one())
    assert (found["gen_ai.provider.name"], found["cloud.region"]) == ("aws.bedrock", "eu-central-1")


def test_keys_are_sent_as_metadata_only_if_they_are_forwarded_to_any_server(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    keys: dict[str, Any] = {"session_id": "chat 42", "trace": {"feature": "billing", "odd": "a|b", "deep": {"a": 1}}}
    given = {"requestMetadata": {"feature": "own"}}
    client.converse(**CONVERSE, **given, **keys)
    assert server.requests[0].body["requestMetadata"] == {"feature": "own"}
    spancast.configure(tracer_provider=spans.provider, forward_trace_keys="always")
    client.converse(**CONVERSE, **given, **keys)
    sent = server.requests[1].body["requestMetadata"]
    assert sent.items() >= {"feature": "own", "session_id": "chat 42"}.items()
    assert sent.keys() <= {"feature", "session_id", "trace_id", "parent_span_id"}


def test_other_operations_are_not_recorded_and_accept_keys(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.json({"inputTokens": 7}))
    found = client.count_tokens(
        modelId="m-1", input={"converse": {"messages": CONVERSE["messages"]}}, session_id="s", trace={"a": 1}
    )
    assert found["inputTokens"] == 7
    assert spans.all() == []


def test_stubbed_responses_are_recorded(client: Any, spans: CapturedSpans) -> None:
    with Stubber(client) as stubber:
        stubber.add_response("converse", converse_answer("Hello there"))
        client.converse(**CONVERSE)
        stubber.add_client_error("converse", "AccessDeniedException", http_status_code=403)
        with pytest.raises(ClientError):
            client.converse(**CONVERSE)
    answered, refused = spans.all()
    assert attributes(answered)["gen_ai.output.messages"] == TEXT
    assert attributes(refused)["error.type"] == "AccessDeniedException"


def test_body_of_a_file_is_not_read_by_us(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    client.invoke_model(modelId="anthropic.claude-x", body=io.BytesIO(INVOKE["body"].encode()))["body"].read()
    assert server.requests[0].body == BODIES["llama"]
    assert attributes(spans.one())["gen_ai.request.model"] == "anthropic.claude-x"


def test_keys_leave_the_parameters_whatever_fails(
    client: Any, server: ReplayServer, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: object, _body: object) -> None:
        message = "a defect"
        raise RuntimeError(message)

    monkeypatch.setattr(BedrockInvoke, "for_request", broken)
    reraise_internal_errors(enabled=False)
    assert client.invoke_model(**INVOKE, session_id="s", trace={"a": 1})["body"].read()
    assert len(server.requests) == 1
    assert spans.all() == []


# --- other services ------------------------------------------------------------------------------------
def test_other_services_are_neither_recorded_nor_changed(server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.instrument("bedrock")
    server.reply(Reply.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndata"))
    body = make(server, "s3").get_object(Bucket="b", Key="k")["Body"]
    assert type(body._raw_stream).__module__.startswith("urllib3")
    assert body.read() == b"data"
    with pytest.raises(ParamValidationError, match="session_id"):
        make(server, "s3").get_object(Bucket="b", Key="k", session_id="s")
    assert spans.all() == []


def test_client_of_another_service_is_rejected(server: ReplayServer) -> None:
    with pytest.raises(ConfigError, match="expected a client object"):
        spancast.instrument(make(server, "s3"))


def test_paginators_waiters_and_metadata_are_as_before(server: ReplayServer) -> None:
    plain, client = make(server), spancast.instrument(make(server))
    assert client.meta.method_to_api_mapping == plain.meta.method_to_api_mapping
    assert client.can_paginate("list_async_invokes") == plain.can_paginate("list_async_invokes")
    assert client.waiter_names == plain.waiter_names
    assert client.converse.__doc__ == plain.converse.__doc__
    assert vars(client).keys() - vars(plain).keys() == {"_make_api_call", "_make_request"}
    spancast.uninstrument(client)
    assert vars(client).keys() == vars(plain).keys()
    assert OPTIONS["region_name"] == client.meta.region_name


# --- other instrumentations -------------------------------------------------------------------------------
PEERS = {
    "opentelemetry": ("opentelemetry.instrumentation.botocore", "BotocoreInstrumentor"),
    "openinference": ("openinference.instrumentation.bedrock", "BedrockInstrumentor"),
}


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("peer", PEERS)
def test_other_instrumentation_beside_ours_gives_one_span(
    peer: str, is_first: bool, server: ReplayServer, spans: CapturedSpans
) -> None:
    module, name = PEERS[peer]
    instrumentor = getattr(pytest.importorskip(module), name)()
    starts = [lambda: instrumentor.instrument(tracer_provider=spans.provider), lambda: spancast.instrument("bedrock")]
    try:
        for start in starts if is_first else reversed(starts):
            start()
        client = make(server)
        client.converse(**CONVERSE, session_id="chat-42")
        list(client.converse_stream(**CONVERSE, session_id="chat-42")["stream"])
        client.invoke_model(modelId="anthropic.claude-3-haiku", body=json.dumps(BODIES["anthropic"]))["body"].read()
    finally:
        instrumentor.uninstrument()
    assert len(spans.all()) == 3
    assert [attributes(span).get("session.id") for span in spans.all()] == ["chat-42", "chat-42", None]
