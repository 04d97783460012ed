from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spancast
from spancast.dialects.registry import find_dialect
from spancast.instrumentation import xai
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

xai_sdk = pytest.importorskip("xai_sdk")
KEYS: dict[str, Any] = {"session_id": "chat-42", "trace": {"generation_name": "classify", "feature": "billing"}}


@pytest.fixture
def client(server: ReplayServer) -> Any:
    from tests.instrumentation import grpc_bridge

    address = grpc_bridge.address_of(server)
    with xai_sdk.Client(api_key="test", api_host=address, use_insecure_channel=True) as made:
        yield spancast.instrument(made)


def new_chat(client: Any, **options: Any) -> Any:
    return client.chat.create(model="grok-4", messages=[xai_sdk.chat.user("hi")], **options)


def test_conversation_keeps_its_keys_and_each_call_adds_its_own(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    chat = new_chat(client, user="u-1", temperature=0.5, **KEYS)
    chat.append(chat.sample())
    chat.append(xai_sdk.chat.user("more"))
    chat.sample(trace={"generation_name": "second"})
    first, second = (attributes(span) for span in spans.calls())
    assert [span.name for span in spans.calls()] == ["classify", "second"]
    assert (first["session.id"], second["session.id"], second["user.id"]) == ("chat-42", "chat-42", "u-1")
    assert [message["role"] for message in second["gen_ai.input.messages"]] == ["user", "assistant", "user"]
    assert first["gen_ai.request.temperature"] == 0.5
    assert first["gen_ai.provider.name"] == "x_ai"
    assert all("trace" not in request.body for request in server.requests)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_parse_and_batches_are_one_span_each(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    from pydantic import BaseModel

    class Greeting(BaseModel):
        text: str

    message = {"role": "ROLE_ASSISTANT", "content": '{"text": "Hello"}'}
    outputs = [{"index": n, "finish_reason": "REASON_STOP", "message": message} for n in range(2)]
    server.reply(Reply.json({"id": "x-1", "model": "grok-4", "outputs": outputs[:1]}))
    assert new_chat(client).parse(Greeting)[1] == Greeting(text="Hello")
    server.reply(Reply.json({"id": "x-2", "model": "grok-4", "outputs": outputs}))
    assert len(new_chat(client).sample_batch(2)) == 2
    parsed, batch = (attributes(span) for span in spans.calls())
    assert parsed["gen_ai.output.type"] == "json"
    assert batch["gen_ai.request.choice.count"] == 2
    assert len(batch["gen_ai.output.messages"]) == 2


def test_spans_of_the_sdk_are_not_made_while_a_call_of_ours_runs(
    client: Any, server: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(xai_sdk.sync.chat, "tracer", provider.get_tracer("xai_sdk"))
    with spancast.testing.captured_spans():
        chat = new_chat(client)
        chat.sample()
        steps = chat.stream()
        next(steps)
        # Nothing is current between two steps.
        assert not trace_api.get_current_span().get_span_context().is_valid
        list(steps)
        assert not exporter.get_finished_spans()
    spancast.uninstrument(client)
    new_chat(client).sample()
    assert [span.name for span in exporter.get_finished_spans()] == ["chat.sample grok-4"]


def test_status_of_grpc_is_the_error_type(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    import grpc

    server.reply(Reply.error(401, {"error": "no key"}))
    with pytest.raises(grpc.RpcError):
        new_chat(client).sample()
    found = attributes(spans.one())
    assert found["error.type"] == "UNAUTHENTICATED"
    assert found["gen_ai.input.messages"][0]["parts"] == [{"type": "text", "content": "hi"}]


@pytest.mark.parametrize("text", ["x", "ø", "é" * 63, "x" * 127, "x" * 128, "x" * 16_383, "語" * 9_000])
def test_text_of_any_size_is_read_from_the_wire_without_other_fields_being_lost(text: str) -> None:
    from xai_sdk.chat import chat_pb2

    dialect: Any = find_dialect("xai_chat")
    role = chat_pb2.MessageRole.ROLE_USER
    plain = chat_pb2.Message(role=role, content=[chat_pb2.Content(text=text)])
    named = chat_pb2.Message(role=role, content=[chat_pb2.Content(text=text)], name="bo")
    request = chat_pb2.GetCompletionsRequest(model="grok-4", messages=[plain, named])
    read = dialect.read_request(xai._wire(request), content=True).messages
    expected = {"role": "user", "parts": [{"type": "text", "content": text}]}
    assert read == [expected, {**expected, "name": "bo"}]
