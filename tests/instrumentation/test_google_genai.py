from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from tests.instrumentation.google_drivers import has_interactions, vertex_client

import spancast
from spancast.diagnostics import reraise_internal_errors
from spancast.dialects.gemini.answers import gemini_answer, gemini_chunks
from spancast.instrumentation.google_interactions import google_server
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

if not has_interactions():
    pytest.skip("google-genai is not installed, or too old for these tests", allow_module_level=True)

from google import genai
from google.genai import errors, types

QUOTA = {"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}}


@pytest.fixture
def client(server: ReplayServer) -> Iterator[Any]:
    with genai.Client(api_key="k-secret", http_options={"base_url": server.url}) as made:
        yield spancast.instrument(made)


def current_span_is_valid() -> bool:
    return trace_api.get_current_span().get_span_context().is_valid


def test_automatic_function_calling_has_a_span_per_request_and_none_around_the_tool(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    seen: list[bool] = []

    def weather(city: str) -> str:
        """Return the weather."""
        seen.append(current_span_is_valid())
        return f"sunny in {city}"

    server.reply(Reply.json(gemini_answer(None, tool_calls=[("weather", {"city": "Oslo"})])))
    answer = client.models.generate_content(
        model="m-1", contents="hi", config={"tools": [weather]}, trace={"span_name": "ask", "trace_id": "t-1"}
    )
    assert answer.text
    assert seen == [False]
    assert [span.name for span in spans.calls()] == ["generate_content m-1"] * 2
    first, second = map(attributes, spans.calls())
    assert first["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert first["gen_ai.tool.definitions"][0]["name"] == "weather"
    assert [message["role"] for message in second["gen_ai.input.messages"]] == ["user", "assistant", "tool"]
    assert len({span.context.trace_id for span in spans.all()}) == 1
    assert all("trace" not in request.body for request in server.requests)


def test_streamed_function_calling_has_a_span_per_request(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    def weather(city: str) -> str:
        """Return the weather."""
        return "sunny"

    answer = gemini_answer("Let me look.", tool_calls=[("weather", {"city": "Oslo"})])
    server.reply(Reply.stream(gemini_chunks(answer), done=False))
    stream = client.models.generate_content_stream(
        model="m-1", contents="hi", config={"tools": [weather]}, session_id="s"
    )
    assert spans.all() == server.requests == []
    for _ in stream:
        assert not current_span_is_valid()
    assert [attributes(span)["session.id"] for span in spans.calls()] == ["s", "s"]
    assert [attributes(span)["gen_ai.response.finish_reasons"] for span in spans.calls()] == [["tool_calls"], ["stop"]]


def _asks_for(tool: str) -> Reply:
    return Reply.json(gemini_answer(None, tool_calls=[(tool, {"city": "Oslo"})]))


def weather(city: str) -> str:
    """Return the weather."""
    seen.append(current_span_is_valid())
    return f"sunny in {city}"


seen: list[bool] = []
FUNCTIONS: Any = {"tools": [weather]}


@pytest.mark.parametrize("way", ["sync", "async", "stream", "chat"])
async def test_requests_of_automatic_function_calling_have_one_group_if_no_span_is_active(
    way: str, client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    seen.clear()
    events = gemini_chunks(gemini_answer(None, tool_calls=[("weather", {"city": "Oslo"})]))
    given: Any = {"model": "m-1", "contents": "hi", "config": FUNCTIONS}
    with genai.Client(api_key="k", http_options={"base_url": server.url}) as plain:
        for made in (plain, client):
            keys = {"session_id": "s-1"} if way == "chat" and made is client else {}
            server.reply(Reply.stream(events, done=False) if way == "stream" else _asks_for("weather"))
            if way == "sync":
                made.models.generate_content(**given)
            elif way == "async":
                await made.aio.models.generate_content(**given)
                await made.aio.aclose()
            elif way == "chat":
                made.chats.create(model="m-1", config=FUNCTIONS).send_message("hi", **keys)
            else:
                for _ in made.models.generate_content_stream(**given):
                    assert not current_span_is_valid()
    assert seen == [False, False]
    bodies = [request.body for request in server.requests]
    assert bodies[:2] == bodies[2:]
    [group] = [span for span in spans.all() if span not in spans.calls()]
    assert group.name == "function_calling m-1"
    assert [span.parent.span_id for span in spans.calls()] == [group.context.span_id] * 2
    assert group.end_time >= max(span.end_time for span in spans.calls())
    session = "s-1" if way == "chat" else None
    assert [attributes(span).get("session.id") for span in spans.all()] == [session] * 3


def test_group_of_automatic_function_calling_has_the_name_of_the_caller(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(_asks_for("weather"))
    client.models.generate_content(
        model="m-1", contents="hi", config=FUNCTIONS, trace={"span_name": "ask", "feature": "billing"}
    )
    assert [span.name for span in spans.all()] == ["generate_content m-1", "generate_content m-1", "ask"]
    assert {attributes(span)["trace.metadata.feature"] for span in spans.all()} == {"billing"}
    assert len({span.context.trace_id for span in spans.all()}) == 1


@pytest.mark.parametrize("reason", ["span", "disabled", "declared"])
def test_call_that_needs_no_group_has_none(
    reason: str, client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    config: Any = FUNCTIONS
    if reason == "disabled":
        config = {**FUNCTIONS, "automatic_function_calling": {"disable": True}}
    elif reason == "declared":
        config = {"tools": [{"function_declarations": [{"name": "weather"}]}]}
    block = spancast.trace(span_name="mine") if reason == "span" else nullcontext()
    with block:
        client.models.generate_content(model="m-1", contents="hi", config=config)
    assert [span.name for span in spans.all()] == ["generate_content m-1", *(["mine"] if reason == "span" else [])]


def test_group_of_a_stream_that_is_left_ends(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    stream = client.models.generate_content_stream(model="m-1", contents="hi", config=FUNCTIONS)
    next(stream)
    stream.close()
    del stream
    # The SDK leaves a cycle.
    gc.collect()
    assert [span.name for span in spans.all()] == ["generate_content m-1", "function_calling m-1"]


@pytest.mark.parametrize("part", ["google_server", "session_header", "_is_embedding", "CALL_TRACER"])
def test_keys_in_extra_body_are_not_sent_if_the_recording_cannot_start(
    part: str, server: ReplayServer, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    reraise_internal_errors(enabled=False)
    monkeypatch.setattr(f"spancast.instrumentation.google_genai.{part}", None)
    extra: Any = {"trace": {"feature": "a"}, "session_id": "s", "labels": {"team": "a"}}
    options = {"base_url": server.url, "extra_body": extra}
    with genai.Client(api_key="k", http_options=options) as made:
        spancast.instrument(made)
        made.models.generate_content(model="m-1", contents="hi")
        made.models.generate_content(model="m-1", contents="hi", config={"http_options": {"extra_body": extra}})
        # Its path is that of no dialect.
        server.reply(Reply.json({"totalTokens": 3}))
        made.models.count_tokens(model="m-1", contents="hi")
        client_of_interactions = made.interactions
        monkeypatch.setattr("spancast.instrumentation.google_interactions.google_server", None)
        client_of_interactions.create(model="m-1", input="hi", extra_body=extra)
    assert len(server.requests) == 4
    for request in server.requests:
        assert not {"trace", "session_id"} & {*request.body}
        assert request.body["labels"] == {"team": "a"}
    assert extra.keys() == {"trace", "session_id", "labels"}


def test_trace_keys_leave_the_configuration_of_a_chat_and_of_the_caller_as_it_is(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    given = types.GenerateContentConfig(
        system_instruction="Be brief.", http_options=types.HttpOptions(extra_body={"labels": {"team": "a"}})
    )
    chat = client.chats.create(model="m-1", config=given)
    chat.send_message("hi", trace={"feature": "billing"})
    list(chat.send_message_stream("more", {"temperature": 0.5}, session_id="s-2"))
    client.models.generate_content(model="m-1", contents="hi", config=given, session_id="s-3")
    assert (given.system_instruction, given.http_options.extra_body) == ("Be brief.", {"labels": {"team": "a"}})
    first, second, third = (request.body for request in server.requests)
    assert first["systemInstruction"]["parts"] == third["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert first["labels"] == third["labels"] == {"team": "a"}
    assert "systemInstruction" not in second
    assert second["generationConfig"] == {"temperature": 0.5}
    assert not {"trace", "session_id"} & {*first, *second, *third}
    found = [attributes(span) for span in spans.calls()]
    assert found[0]["trace.metadata.feature"] == "billing"
    assert found[0]["spancast.request.labels"] == {"team": "a"}
    assert [one.get("session.id") for one in found] == [None, "s-2", "s-3"]
    assert [len(one["gen_ai.input.messages"]) for one in found] == [1, 3, 1]


def test_keys_and_unknown_fields_in_extra_body_and_the_session_header_are_read(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    options = {"base_url": server.url, "extra_body": {"trace": {"feature": "a"}, "new_field": 1}}
    with genai.Client(api_key="k", http_options=options) as made:
        client = spancast.instrument(made)
        client.models.generate_content(model="m-1", contents="hi")
        own = {
            "extra_body": {"session_id": "s", "generationConfig": {"newOption": 2}},
            "headers": {"x-session-id": "h"},
        }
        client.models.generate_content(model="m-1", contents="hi", config={"temperature": 0.5, "http_options": own})
    assert [request.body for request in server.requests] == [
        {"contents": [{"parts": [{"text": "hi"}], "role": "user"}], "new_field": 1},
        {
            "contents": [{"parts": [{"text": "hi"}], "role": "user"}],
            "generationConfig": {"temperature": 0.5, "newOption": 2},
        },
    ]
    first, second = map(attributes, spans.calls())
    assert (first["trace.metadata.feature"], first["spancast.request.new_field"]) == ("a", 1)
    assert (second["session.id"], second["spancast.request.new_option"]) == ("s", 2)
    assert second["gen_ai.request.temperature"] == 0.5


def test_keys_are_forwarded_where_the_settings_say_so(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.configure(tracer_provider=spans.provider, forward_trace_keys="always")
    client.models.generate_content(model="m-1", contents="hi", trace={"feature": "billing"}, session_id="s")
    with spancast.trace(feature="more"):
        list(client.models.generate_content_stream(model="m-1", contents="hi"))
    first, second = (request.body for request in server.requests)
    assert (first["session_id"], first["trace"]["feature"], second["trace"]["feature"]) == ("s", "billing", "more")


def test_refused_call_has_status_and_code_of_google(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.error(429, QUOTA))
    with pytest.raises(errors.ClientError, match="RESOURCE_EXHAUSTED"):
        client.models.generate_content(model="m-1", contents="hi")
    found = attributes(spans.one())
    assert (found["error.type"], found["spancast.response.status_code"]) == ("RESOURCE_EXHAUSTED", 429)
    assert found["gen_ai.input.messages"] == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    assert not spans.one().status.is_unset


def test_error_in_a_stream_is_the_failure_with_the_part_before_it(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    chunks = gemini_chunks(gemini_answer("Hello world"))
    server.reply(Reply.stream([chunks[0], QUOTA], done=False))
    with pytest.raises(errors.ClientError):
        list(client.models.generate_content_stream(model="m-1", contents="hi"))
    found = attributes(spans.one())
    assert found["error.type"] == "RESOURCE_EXHAUSTED"
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hello "}]


def test_retries_are_inside_one_span(server: ReplayServer, spans: CapturedSpans) -> None:
    retry = {"attempts": 3, "initial_delay": 0.001, "max_delay": 0.002, "http_status_codes": [503]}
    server.reply(Reply.error(503), Reply.error(503))
    with genai.Client(api_key="k", http_options={"base_url": server.url, "retry_options": retry}) as made:
        spancast.instrument(made).models.generate_content(model="m-1", contents="hi")
    assert len(server.requests) == 3
    assert spans.one().status.is_unset


def test_stream_left_after_its_last_chunk_is_complete(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    chunks = gemini_chunks(gemini_answer("Hello world"))
    server.reply(Reply.stream(chunks, done=False))
    stream = client.models.generate_content_stream(model="m-1", contents="hi")
    for _ in chunks:
        next(stream)
    stream.close()
    found = attributes(spans.one())
    assert "spancast.response.incomplete" not in found
    assert found["gen_ai.response.finish_reasons"] == ["stop"]


def test_stream_without_a_finish_reason_is_cut(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.stream(gemini_chunks(gemini_answer("Hello world"))[:1], done=False))
    list(client.models.generate_content_stream(model="m-1", contents="hi"))
    assert attributes(spans.one())["spancast.response.incomplete"] == "cut"


def test_answer_that_the_sdk_rejects_is_recorded(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    answer = gemini_answer("Hi.")
    answer["candidates"][0]["avgLogprobs"] = "not a number"
    server.reply(Reply.json(answer))
    with pytest.raises(ValueError, match="avg"):
        client.models.generate_content(model="m-1", contents="hi")
    assert attributes(spans.one())["gen_ai.usage.output_tokens"] == 10


@pytest.mark.parametrize(
    ("url", "vertex", "provider"),
    [
        ("https://generativelanguage.googleapis.com/", False, "gcp.gemini"),
        ("https://europe-west4-aiplatform.googleapis.com/", True, "gcp.vertex_ai"),
        ("https://aiplatform.googleapis.com/", True, "gcp.vertex_ai"),
        ("https://openrouter.ai/api/", False, "openrouter"),
        ("https://gateway.example.com/", False, "gcp.gen_ai"),
        ("https://gateway.example.com/", True, "gcp.vertex_ai"),
        (None, None, "gcp.gen_ai"),
    ],
)
def test_provider_is_that_of_the_host_else_of_the_client(url: Any, vertex: Any, provider: str) -> None:
    class Owner:
        vertexai = vertex

    assert google_server(Owner(), url).provider == provider


def test_vertex_calls_name_model_and_provider(server: ReplayServer, spans: CapturedSpans) -> None:
    with vertex_client(server) as made:
        spancast.instrument(made).models.generate_content(model="gemini-3.8-flash", contents="hi")
    assert server.requests[0].path.endswith(
        "/locations/europe-west4/publishers/google/models/gemini-3.8-flash:generateContent"
    )
    found = attributes(spans.one())
    assert (found["gen_ai.provider.name"], found["gen_ai.request.model"]) == ("gcp.vertex_ai", "gemini-3.8-flash")


def test_other_methods_accept_trace_keys_and_are_not_recorded(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.json({"totalTokens": 7}))
    assert client.models.count_tokens(model="m-1", contents="hi", trace={"feature": "a"}).total_tokens == 7
    server.reply(Reply.json({"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": "iVBORw0KGgo="}]}))
    with vertex_client(server) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = spancast.instrument(made).models.generate_images(model="imagen-4", prompt="a cat", session_id="s")
    assert len(images.generated_images) == 1
    assert spans.all() == []
    assert spancast.stats().keys_not_traced == 2


def test_temporary_client_behaves_as_without_spancast(server: ReplayServer, spans: CapturedSpans) -> None:
    def ask() -> Any:
        try:
            made = genai.Client(api_key="k", http_options={"base_url": server.url})
            models = made.models
            del made
            gc.collect()
            return models.generate_content(model="m-1", contents="hi").text
        except RuntimeError as error:
            return str(error)

    plain = ask()
    spancast.instrument("google_genai")
    try:
        assert ask() == plain
    finally:
        spancast.uninstrument("google_genai")


def test_nothing_of_the_content_is_recorded_without_capture_content(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    spancast.configure(tracer_provider=spans.provider, capture_content=False)
    client.models.generate_content(
        model="m-1", contents="my secret question",
        config={"system_instruction": "secret", "response_schema": {"type": "STRING", "description": "secret"}},
    )  # fmt: skip
    found = attributes(spans.one())
    assert "secret" not in repr({name: value for name, value in found.items() if name != "spancast.redacted"})
    assert found["gen_ai.usage.input_tokens"]


# --- streams that are read late -------------------------------------------------------------------


async def read_both(made: Any) -> list[str]:
    """Return the texts of a whole call and a stream, synchronous, then asynchronous."""
    ask: Any = {"model": "m-1", "contents": "hi"}
    texts = [made.models.generate_content(**ask).text]
    texts.append("".join(chunk.text for chunk in made.models.generate_content_stream(**ask)))
    texts.append((await made.aio.models.generate_content(**ask)).text)
    texts.append("".join([chunk.text async for chunk in await made.aio.models.generate_content_stream(**ask)]))
    return texts


async def test_stream_of_a_chat_keeps_its_keys_where_openinference_is_imported(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    pytest.importorskip("openinference.instrumentation.google_genai")
    with genai.Client(api_key="k", http_options={"base_url": server.url}) as made:
        client: Any = spancast.instrument(made)
        keys: Any = {"trace": {"generation_name": "greet"}, "session_id": "s"}
        list(client.chats.create(model="m-1").send_message_stream("hi", **keys))
        async for _ in await client.aio.chats.create(model="m-1").send_message_stream("hi", **keys):
            pass
        await made.aio.aclose()
    assert [span.name for span in spans.all()] == ["greet", "greet"]
    assert [attributes(span)["session.id"] for span in spans.all()] == ["s", "s"]


@pytest.mark.parametrize("target", ["class", "client"])
@pytest.mark.parametrize("is_first", [True, False])
async def test_openinference_beside_ours_gives_one_span(
    is_first: bool, target: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    peer = pytest.importorskip("openinference.instrumentation.google_genai").GoogleGenAIInstrumentor()
    with genai.Client(api_key="k", http_options={"base_url": server.url}) as made:
        plain = await read_both(made)
        ours: Any = "google_genai" if target == "class" else made
        starts = [lambda: peer.instrument(tracer_provider=spans.provider), lambda: spancast.instrument(ours)]
        try:
            for start in starts if is_first else reversed(starts):
                start()
            assert await read_both(made) == plain
            with spancast.trace(session_id="s"):
                assert await read_both(made) == plain
        finally:
            spancast.uninstrument(ours)
            peer.uninstrument()
            await made.aio.aclose()
    found = [attributes(span) for span in spans.all()]
    assert [span.instrumentation_scope.name for span in spans.all()] == [
        "openinference.instrumentation.google_genai"
    ] * 8
    assert [one.get("session.id") for one in found] == [None] * 4 + ["s"] * 4
    assert all(one["gen_ai.request.model"] == one["llm.model_name"] == "m-1" for one in found)


@pytest.mark.parametrize("is_async", [False, True])
async def test_keys_of_a_stream_are_not_sent_if_the_client_is_uninstrumented_before_its_first_step(
    is_async: bool, client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    ask: Any = {"model": "m-1", "contents": "hi", "trace": {"feature": "billing"}, "session_id": "s"}
    chat = {"message": "hi", "session_id": "s"}
    if is_async:
        streams = [
            await client.aio.models.generate_content_stream(**ask),
            await client.aio.chats.create(model="m-1").send_message_stream(**chat),
        ]
        spancast.uninstrument(client)
        for stream in streams:
            assert [chunk async for chunk in stream]
        await client.aio.aclose()
    else:
        begun = [
            client.models.generate_content_stream(**ask),
            client.chats.create(model="m-1").send_message_stream(**chat),
        ]
        spancast.uninstrument(client)
        assert all(map(list, begun))
    assert spans.all() == []
    assert [{*request.body} - {"generationConfig"} for request in server.requests] == [{"contents"}] * 2


def test_keys_are_not_sent_if_our_begin_fails(
    client: Any, server: ReplayServer, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    import spancast.instrumentation.google_genai as patches

    monkeypatch.delattr(patches, "google_server")
    former = reraise_internal_errors(enabled=False)
    try:
        client.models.generate_content(model="m-1", contents="hi", session_id="s")
        list(client.models.generate_content_stream(model="m-1", contents="hi", session_id="s"))
    finally:
        reraise_internal_errors(enabled=former)
    assert spancast.stats().internal_errors == 2
    assert spans.all() == []
    assert [{*request.body} - {"generationConfig"} for request in server.requests] == [{"contents"}] * 2


def test_keys_leave_the_extra_body_of_the_client_as_it_is(server: ReplayServer, spans: CapturedSpans) -> None:
    options = {"base_url": server.url, "extra_body": {"labels": {"team": "a"}}}
    with genai.Client(api_key="k", http_options=options) as made:
        client: Any = spancast.instrument(made)
        client.models.generate_content(model="m-1", contents="hi", session_id="s")
        list(client.models.generate_content_stream(model="m-1", contents="hi", trace={"feature": "a"}))
    assert [request.body.get("labels") for request in server.requests] == [{"team": "a"}] * 2
    assert not any({"trace", "session_id"} & {*request.body} for request in server.requests)
    assert [attributes(span)["spancast.request.labels"] for span in spans.calls()] == [{"team": "a"}] * 2


# --- interactions ---------------------------------------------------------------------------------


def test_interaction_that_continues_has_a_span_per_request(server: ReplayServer, spans: CapturedSpans) -> None:
    from spancast.dialects.gemini_interactions.answers import interaction_answer

    hop = {**interaction_answer("Hello ", model="m-1"), "status": "requires_continuation", "continuation_token": "c-1"}
    server.reply("/interactions", Reply.json(hop))
    with genai.Client(api_key="k", http_options={"base_url": server.url}) as made:
        client = spancast.instrument(made)
        client.interactions.create(model="m-1", input="hi", session_id="s", extra_body={"labels": {"team": "a"}})
    found = [attributes(span) for span in spans.calls()]
    assert [one["gen_ai.response.finish_reasons"] for one in found] == [["length"], ["stop"]]
    assert [one["session.id"] for one in found] == ["s", "s"]
    assert [request.body.get("labels") for request in server.requests] == [{"team": "a"}, {"team": "a"}]
    assert all("session_id" not in request.body for request in server.requests)


def test_refused_interaction_has_the_status_of_google(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(*[Reply.error(400, {"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}})])
    with pytest.raises(Exception, match=r"No\."):
        client.interactions.create(model="m-1", input="hi")
    found = attributes(spans.one())
    assert (found["error.type"], found["spancast.response.status_code"]) == ("INVALID_ARGUMENT", 400)


async def test_fetched_interaction_is_linked_to_its_begin(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    from spancast.dialects.gemini_interactions.answers import interaction_answer

    begun = {"id": "int-9", "model": "m-1", "status": "in_progress"}
    server.reply("/interactions", Reply.json(begun))
    server.reply("/interactions/int-9", Reply.json(interaction_answer("Hello!", model="m-1", answer_id="int-9")))
    client.interactions.create(model="m-1", input="hi", background=True)
    client.interactions.get("int-9", trace={"feature": "billing"})
    first, second = spans.calls()
    assert second.name == "fetch_response"
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    found = attributes(second)
    assert (found["gen_ai.response.status"], found["trace.metadata.feature"]) == ("completed", "billing")
    assert found["gen_ai.usage.output_tokens"] == 10


def test_raw_interaction_is_recorded_from_its_body(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    response = client.interactions.with_raw_response.create(model="m-1", input="hi")
    assert response.parse().status == "completed"
    assert attributes(spans.one())["gen_ai.response.finish_reasons"] == ["stop"]
