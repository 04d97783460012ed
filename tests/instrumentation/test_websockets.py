"""Responses over a web socket, by openai's clients against a scripted server of the package websockets."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import openai
import pytest
import websockets.asyncio.client
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

import spancast
from spancast.testing import CapturedSpans
from spancast.testing.spans import attributes

# openai 3.57 opens connections of websockets 17 in a way that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")

Script = Callable[[Any, "Server"], None]
USAGE = {
    "total_tokens": 30, "input_tokens": 20, "output_tokens": 10,
    "input_token_details": {"text_tokens": 5, "audio_tokens": 15, "cached_tokens": 4},
    "output_token_details": {"text_tokens": 2, "audio_tokens": 8},
}  # fmt: skip


class Server:
    """A server of one script: ``script(connection, server)`` runs for each connection."""

    def __init__(self, script: Script) -> None:
        self.received: list[Any] = []
        self.path = ""
        self._script = script
        self._server = websockets.sync.server.serve(self._handle, "127.0.0.1", 0)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _handle(self, connection: Any) -> None:
        self.path = connection.request.path
        self._script(connection, self)

    def next(self, connection: Any) -> Any:
        event = json.loads(connection.recv(timeout=30))
        self.received.append(event)
        return event

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(30)


@contextmanager
def served(script: Script) -> Iterator[Server]:
    server = Server(script)
    try:
        yield server
    finally:
        server.close()


def say(connection: Any, *events: dict[str, Any]) -> None:
    for event in events:
        connection.send(json.dumps(event))


def realtime_response(identity: str, status: str = "completed", **more: Any) -> dict[str, Any]:
    content = [{"type": "output_audio", "transcript": "Hello there."}]
    item = {"id": "i1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return {"object": "realtime.response", "id": identity, "status": status, "output": [item], "usage": USAGE,
            "conversation_id": "conv-1", "output_modalities": ["audio"], **more}  # fmt: skip


def realtime_events(identity: str, **more: Any) -> list[dict[str, Any]]:
    begun = {"object": "realtime.response", "id": identity, "status": "in_progress", "output": []}
    at = {"response_id": identity, "item_id": "i1", "output_index": 0, "content_index": 0}
    return [
        {"type": "response.created", "response": begun},
        {"type": "response.output_audio_transcript.delta", "delta": "Hello ", **at},
        {"type": "response.output_audio.delta", "delta": "QUJD", **at},
        {"type": "response.output_audio_transcript.delta", "delta": "there.", **at},
        {"type": "response.done", "response": realtime_response(identity, **more)},
    ]


SESSION = {
    "type": "session.created",
    "session": {"type": "realtime", "model": "gpt-realtime", "instructions": "Be kind."},
}
QUESTION: Any = {"type": "message", "role": "user",
            "content": [{"type": "input_text", "text": "hi"}, {"type": "input_audio", "audio": "QUJDREVGRw=="}]}  # fmt: skip


def talk(server: Server, work: Callable[[Any], None], **options: Any) -> None:
    client = spancast.instrument(openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="k"))
    with client.realtime.connect(model="gpt-realtime", **options) as connection:
        work(connection)


def until(connection: Any, kind: str) -> Any:
    for event in connection:
        if event.type == kind:
            return event
    return None


def realtime_script(connection: Any, server: Server) -> None:
    say(connection, SESSION)
    while server.next(connection)["type"] != "response.create":
        pass
    say(connection, *realtime_events("r1"))
    connection.recv(timeout=30)


def ask(connection: Any) -> None:
    until(connection, "session.created")
    connection.conversation.item.create(item=QUESTION)
    connection.response.create(response={"max_output_tokens": 50})
    assert until(connection, "response.done").response.id == "r1"


def assert_is_realtime(span: Any, port: int) -> None:
    found = attributes(span)
    assert span.name == "chat gpt-realtime"
    assert span.status.is_unset
    assert found["gen_ai.input.messages"][0]["parts"][0] == {"type": "text", "content": "hi"}
    assert "QUJDREVGRw" not in json.dumps(found)
    assert found["gen_ai.system_instructions"] == [{"type": "text", "content": "Be kind."}]
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == "Hello there."
    assert found.items() >= {
        "gen_ai.operation.name": "chat", "openai.api.type": "realtime", "gen_ai.response.id": "r1",
        "gen_ai.request.max_tokens": 50, "gen_ai.response.finish_reasons": ["stop"], "server.port": port,
        "gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 4, "gen_ai.conversation.id": "conv-1",
    }.items()  # fmt: skip
    assert "gen_ai.response.time_to_first_chunk" in found
    assert "spancast.response.incomplete" not in found


def test_realtime_response_is_one_span_with_its_usage(spans: CapturedSpans) -> None:
    with served(realtime_script) as server:
        talk(server, ask)
        assert server.path.startswith("/v1/realtime?model=gpt-realtime")
        assert server.received[0]["item"] == QUESTION
        assert_is_realtime(spans.one(), server.port)


async def test_realtime_response_of_the_asynchronous_client_is_one_span(spans: CapturedSpans) -> None:
    spancast.instrument("openai")
    with served(realtime_script) as server:
        client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="k")
        async with client.realtime.connect(model="gpt-realtime") as connection:
            assert (await connection.recv()).type == "session.created"
            await connection.conversation.item.create(item=QUESTION)
            await connection.response.create(response={"max_output_tokens": 50})
            async for event in connection:
                if event.type == "response.done":
                    break
        assert_is_realtime(spans.one(), server.port)


def test_realtime_response_that_the_server_begins_is_one_span(spans: CapturedSpans) -> None:
    def script(connection: Any, server: Server) -> None:
        say(
            connection, SESSION,
            {"type": "conversation.item.input_audio_transcription.completed", "item_id": "a", "transcript": "spoken"},
            *realtime_events("r1", status="cancelled", status_details={"type": "cancelled", "reason": "turn_detected"}),
            *realtime_events("r2"),
        )  # fmt: skip
        server.next(connection)

    def listen(connection: Any) -> None:
        until(connection, "response.done")
        until(connection, "response.done")
        connection.input_audio_buffer.append(audio="QUJD")

    with served(script) as server:
        talk(server, listen)
    first, second = map(attributes, spans.all())
    assert first["gen_ai.input.messages"][0]["parts"][0]["content"] == "spoken"
    assert first["gen_ai.response.finish_reasons"] == ["turn_detected"]
    assert first["spancast.response.status"] == "cancelled"
    assert (first["gen_ai.response.id"], second["gen_ai.response.id"]) == ("r1", "r2")
    assert "gen_ai.input.messages" not in second


def heard(kind: str, item: str, **more: Any) -> dict[str, Any]:
    names = {"commit": "input_audio_buffer.committed", "text": "conversation.item.input_audio_transcription.completed"}
    return {"type": names[kind], "item_id": item, **more}


def test_transcript_that_arrives_during_a_response_is_its_input(spans: CapturedSpans) -> None:
    first, second = realtime_events("r1"), realtime_events("r2")

    def script(connection: Any, server: Server) -> None:
        say(
            connection, SESSION, heard("commit", "a"), *first[:2],
            # xAI sends a longer one later.
            heard("text", "a", transcript="My"), heard("text", "a", transcript="My name is Ada."),
            # The user goes on before the first response has ended.
            heard("commit", "b"), *first[2:], *second[:1], heard("text", "b", transcript="Go on."), *second[1:],
        )  # fmt: skip
        assert server.next(connection)["type"] == "response.create"
        say(connection, heard("commit", "c"), *realtime_events("r3")[:-1], heard("text", "c", transcript="Bye."))
        say(connection, realtime_events("r3")[-1], heard("commit", "d"), *realtime_events("r4"))
        connection.recv(timeout=30)

    def listen(connection: Any) -> None:
        until(connection, "response.done")
        until(connection, "response.done")
        connection.response.create()
        until(connection, "response.done")
        until(connection, "response.done")

    with served(script) as server:
        talk(server, listen)
    found = [attributes(span)["gen_ai.input.messages"] for span in spans.all()]
    texts = [[part.get("content", part["type"]) for message in given for part in message["parts"]] for given in found]
    assert texts == [["My name is Ada."], ["Go on."], ["Bye."], ["input_audio"]]


def test_parameter_that_the_server_has_chosen_is_not_warned_of(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    def script(connection: Any, server: Server) -> None:
        say(connection, {"type": "session.created", "session": {"model": "m", "temperature": -1.0}})
        server.next(connection)
        say(connection, *realtime_events("r1"))
        connection.recv(timeout=30)

    def listen(connection: Any) -> None:
        until(connection, "session.created")
        connection.response.create()
        until(connection, "response.done")

    with served(script) as server:
        talk(server, listen)
    assert attributes(spans.one())["gen_ai.request.temperature"] == -1.0
    assert [record for record in caplog.records if record.name == "spancast"] == []


def test_trace_keys_of_a_connection_and_a_block_are_used(spans: CapturedSpans) -> None:
    def keyed(connection: Any) -> None:
        with spancast.trace(generation_name="greet"):
            ask(connection)

    with served(realtime_script) as server:
        talk(server, keyed, trace={"trace_name": "Call"}, session_id="s-1")
        assert "trace" not in json.dumps(server.received)
    assert spans.tree() == {"Call": {"greet": {}}}
    assert attributes(spans.calls()[0])["session.id"] == "s-1"


def test_error_event_ends_the_response_it_names(spans: CapturedSpans) -> None:
    def script(connection: Any, server: Server) -> None:
        say(connection, SESSION)
        event = server.next(connection)
        error = {
            "type": "invalid_request_error",
            "code": "no_such_voice",
            "message": "no",
            "event_id": event["event_id"],
        }
        say(connection, {"type": "error", "event_id": "e9", "error": error})
        server.next(connection)

    def refused(connection: Any) -> None:
        connection.response.create(event_id="mine")
        until(connection, "error")
        connection.input_audio_buffer.clear()

    with served(script) as server:
        talk(server, refused)
    assert attributes(spans.one())["error.type"] == "no_such_voice"
    assert not spans.one().status.is_unset


@pytest.mark.parametrize("is_lost", [True, False])
def test_connection_that_ends_during_a_response_records_the_received_part(
    spans: CapturedSpans, *, is_lost: bool
) -> None:
    def script(connection: Any, server: Server) -> None:
        say(connection, SESSION)
        server.next(connection)
        say(connection, *realtime_events("r1")[:2])
        if is_lost:
            connection.socket.close()
        else:
            connection.recv(timeout=30)

    def cut(connection: Any) -> None:
        connection.response.create()
        until(connection, "response.output_audio_transcript.delta")
        if is_lost:
            with pytest.raises(Exception, match=r"."):
                until(connection, "response.done")

    with served(script) as server:
        talk(server, cut)
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == "Hello "
    assert found["spancast.response.incomplete"] == ("failed" if is_lost else "closed")


def test_uninstrumented_connection_is_not_recorded(spans: CapturedSpans) -> None:
    with served(realtime_script) as server:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="k")
        spancast.instrument(openai.OpenAI(api_key="other"))
        with client.realtime.connect(model="gpt-realtime") as connection:
            ask(connection)
    assert spans.all() == []


def response_events(identity: str, text: str) -> list[dict[str, Any]]:
    begun = {"object": "response", "id": identity, "status": "in_progress", "model": "gpt-5", "output": []}
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}
    return [
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "m1", "output_index": 0,
         "content_index": 0, "delta": text, "logprobs": []},
        {"type": "response.completed", "sequence_number": 2,
         "response": {**begun, "status": "completed", "output": [item], "usage": usage}},
    ]  # fmt: skip


def responses_script(connection: Any, server: Server) -> None:
    for number in (1, 2):
        server.next(connection)
        say(connection, *response_events(f"r{number}", f"answer {number}"))
    server.next(connection)
    say(
        connection,
        {
            "type": "error",
            "status": 400,
            "error": {"type": "invalid_request_error", "code": "bad_model", "message": "no"},
        },
    )


def assert_are_responses(spans: CapturedSpans) -> None:
    first, second, third = spans.all()
    for number, span in enumerate((first, second), 1):
        found = attributes(span)
        assert span.name == "chat gpt-5"
        assert found["gen_ai.input.messages"] == [
            {"role": "user", "parts": [{"type": "text", "content": f"q{number}"}]}
        ]
        assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == f"answer {number}"
        assert (found["gen_ai.usage.input_tokens"], found["gen_ai.response.id"]) == (7, f"r{number}")
    assert attributes(third)["error.type"] == "bad_model"


def test_responses_over_a_socket_are_one_span_each(spans: CapturedSpans) -> None:
    with served(responses_script) as server:
        client = spancast.instrument(openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="k"))
        with client.responses.connect() as connection:
            for number in (1, 2):
                connection.response.create(model="gpt-5", input=f"q{number}")
                assert until(connection, "response.completed").response.id == f"r{number}"
            connection.response.create(model="gpt-5", input="q3")
            until(connection, "error")
        assert server.received[0] == {"type": "response.create", "model": "gpt-5", "input": "q1"}
    assert_are_responses(spans)


async def test_responses_over_an_asynchronous_socket_are_one_span_each(spans: CapturedSpans) -> None:
    with served(responses_script) as server:
        client = spancast.instrument(openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="k"))
        async with client.responses.connect() as connection:
            for number in (1, 2, 3):
                await connection.response.create(model="gpt-5", input=f"q{number}")
                async for event in connection:
                    if event.type in ("response.completed", "error"):
                        break
    assert_are_responses(spans)


async def test_cancelled_receive_ends_nothing(spans: CapturedSpans) -> None:
    gate = threading.Event()

    def script(connection: Any, server: Server) -> None:
        server.next(connection)
        gate.wait(30)
        say(connection, *response_events("r1", "answer"))

    with served(script) as server:
        client = spancast.instrument(openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="k"))
        async with client.responses.connect() as connection:
            await connection.response.create(model="gpt-5", input="q1")
            task = asyncio.ensure_future(connection.recv())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.set()
            while (await connection.recv()).type != "response.completed":
                pass
    assert attributes(spans.one())["gen_ai.response.id"] == "r1"


@pytest.mark.parametrize("resource", ["realtime", "responses"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_private_names_of_the_sdk_are_those_that_the_patches_use(resource: str, is_async: bool) -> None:
    """A canary: with another version of openai, ``openai_websockets.observe`` may find nothing and record nothing."""
    kind = openai.AsyncOpenAI if is_async else openai.OpenAI
    client: Any = kind(api_key="k", base_url="http://127.0.0.1:9/v1")
    holder = getattr(client, resource)
    model = {"model": "m-1"} if resource == "realtime" else {}
    manager = holder.connect(**model)
    version = f"openai {openai.__version__}"
    assert holder._client is client, f"{version}: a resource does not know its client as `_client`"
    connect = getattr(manager, "_connect_ws", None)
    assert connect is not None, f"{version}: {type(manager).__name__} has no `_connect_ws`"
    assert inspect.iscoroutinefunction(connect) == is_async, f"{version}: `_connect_ws` is of another kind"
    assert type(manager).__name__.startswith("Async") == is_async, f"{version}: the class has another name"
    assert "_connect_ws(" in inspect.getsource(type(manager)), f"{version}: `_connect_ws` opens no connection"
    await client.close() if is_async else client.close()


@pytest.mark.parametrize("is_async", [False, True])
async def test_connection_of_websockets_names_the_request_that_has_opened_it(is_async: bool) -> None:
    """A canary: server and model of a span are read from it."""

    def script(connection: Any, server: Server) -> None:
        with suppress(websockets.exceptions.ConnectionClosed):
            server.next(connection)

    with served(script) as server:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime?model=m-1"
        if is_async:
            async with websockets.asyncio.client.connect(url) as connection:
                request = connection.request
        else:
            with websockets.sync.client.connect(url) as connection:
                request = connection.request
    assert (request.headers["Host"], request.path) == (f"127.0.0.1:{server.port}", "/v1/realtime?model=m-1")
