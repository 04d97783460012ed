"""Content neither leaves the process nor reaches the disk: a canary is in every place for text.

Real SDKs call a server whose responses have the canary in every text, in unknown fields and in keys. Spans go through
the real spool to a real receiver. The tests run without content capture and in privacy mode, with the default span
limits and with limits so low that attributes move to ``spancast.overflow``.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import TracerProvider
from tests.contract.test_every_client import close, outcome
from tests.destinations.otlp_receiver import OtlpReceiver, ok, status
from tests.instrumentation import http_drivers, huggingface_drivers, mistralai_drivers
from tests.instrumentation.drivers import OF_EACH_MECHANISM, Driver
from tests.instrumentation.peers_program import PEERS
from tests.instrumentation.test_websockets import Server, realtime_events, response_events, say, served, until

import spancast
from spancast.encoding.otlp.decode import read
from spancast.encoding.span_data import SpanData
from spancast.export import delivery_worker as worker_module
from spancast.model import semconv
from spancast.testing import ReplayServer, Reply
from spancast.testing.answers import canned_answer

PATIENCE_S = 60.0
CANARY = "canary-zq7x"
KEPT_KEYS: dict[str, Any] = {"session_id": "session-kept", "trace": {"order": "order-kept", "user": "user-kept"}}
TOOL = {"description": CANARY, "parameters": {"type": "object", "properties": {CANARY: {"const": CANARY}}}}
UNKNOWN: dict[str, Any] = {
    "system_prompt": CANARY, "query": CANARY, "history": [[CANARY, CANARY]], "guided_json": {CANARY: {"a": [CANARY]}},
    "plugins": [{"id": "web", "search_prompt": CANARY, "max_results": 3}], "documents": [{"text": CANARY}],
    "provider": {"order": ["openai"], CANARY: CANARY}, "prediction": {"type": "content", "content": CANARY},
    "top_a": 0.25, "repetition_penalty": CANARY,
}  # fmt: skip
"""Fields of ``extra_body``; only ``top_a`` and parts of ``plugins`` and ``provider`` are recorded without content."""


@dataclass
class Pipeline:
    """A provider with its destination; ``sent`` are all bytes that left the process, ``kept`` all bytes on disk."""

    provider: TracerProvider
    receiver: OtlpReceiver
    directory: Path
    must_overflow: bool

    def spans(self) -> list[SpanData]:
        spancast.flush(PATIENCE_S)
        bodies = {request.body: None for request in self.receiver.requests}
        return list({span.span_id: span for body in bodies for span in read(body)}.values())

    @property
    def sent(self) -> bytes:
        return b"".join(request.body for request in self.receiver.requests)

    @property
    def kept(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.directory.rglob("*") if path.is_file())


MODES = ["content off", "privacy mode", "content off, little room", "privacy mode, little room"]


@pytest.fixture(params=MODES)
def pipeline(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    mode: str = request.param
    if mode.endswith("little room"):
        # Fewer than the attributes of a call, more than those that never move to the overflow attribute.
        monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "34" if mode.startswith("privacy") else "28")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(worker_module, "FIRST_BACKOFF_S", 0.02)
    monkeypatch.setattr(worker_module, "BATCH_DELAY_S", 0.01)
    provider = TracerProvider(shutdown_on_exit=False)
    is_private = mode.startswith("privacy")
    with OtlpReceiver() as receiver:
        # A batch that is rejected once is certainly on disk.
        receiver.answer_with(status(503), ok())
        spancast.configure(
            tracer_provider=provider,
            capture_content=is_private,
            destinations={
                "one": {"type": "otlp", "endpoint": receiver.url, "spans": "all",
                        "privacy_mode": is_private},
            },
        )  # fmt: skip
        yield Pipeline(provider, receiver, tmp_path, mode == MODES[-1])
        spancast.shutdown(5)
        spancast.uninstrument()
        provider.shutdown()


def all_attributes(span: SpanData) -> dict[str, Any]:
    """Return the attributes of ``span``, including those in the overflow attribute."""
    rest = span.attributes.get(semconv.OVERFLOW)
    return {**span.attributes, **(json.loads(rest) if rest else {})}


def assert_no_canary(pipeline: Pipeline) -> list[SpanData]:
    found = pipeline.spans()
    for place in (pipeline.sent, pipeline.kept):
        assert b"gen_ai.operation.name" in place, "nothing was sent or kept: the test would find nothing"
        # Check a part too: another encoding may escape a quote or a dash. No id or time contains its letters.
        assert CANARY.encode() not in place
        assert b"zq7x" not in place
        assert b"778120417" not in place
    return found


# --- SDKs -------------------------------------------------------------------------------------------


WITHOUT_EXTRA_BODY = ("openrouter", "mistralai")
ATTACKED = [
    *OF_EACH_MECHANISM,
    *http_drivers.rows(),
    *[driver for driver in (*mistralai_drivers.rows(), *huggingface_drivers.rows()) if driver.operation == "chat"],
]


def request_of(driver: Driver) -> dict[str, Any]:
    """Return the arguments of a call with the canary in every text, in the form of each SDK."""
    chat_tool = {"type": "function", "function": {"name": CANARY, **TOOL}}
    arguments: dict[str, Any] = {"temperature": 0.5, **KEPT_KEYS}
    if driver.path == "/responses":
        items: list[Any] = [
            {"role": "developer", "content": CANARY},
            {"type": "function_call", "call_id": "c1", "name": CANARY, "arguments": json.dumps({CANARY: CANARY})},
            {"type": "function_call_output", "call_id": "c1", "output": CANARY},
            {"role": "user", "content": [{"type": "input_text", "text": CANARY}]},
        ]
        arguments |= {"input": items, "instructions": CANARY, "tools": [{"type": "function", "name": CANARY, **TOOL}]}
        arguments |= {
            "tool_choice": {"type": "function", "name": CANARY},
            "prompt": {"id": "p", "variables": {"a": CANARY}},
        }
    elif driver.path == "/completions":
        arguments |= {"prompt": [CANARY, CANARY], "suffix": CANARY, "stop": [CANARY], "seed": 7}
    elif driver.path == "/embeddings":
        arguments |= {"input": [CANARY, CANARY]}
    elif driver.path == "/v1/conversations":
        schema = {"name": CANARY, "schema": {CANARY: CANARY}}
        entries: list[Any] = [
            {"type": "message.input", "role": "user", "content": [{"type": "text", "text": CANARY}]},
            {"type": "function.call", "tool_call_id": "c1", "name": CANARY, "arguments": {CANARY: CANARY}},
            {"type": "function.result", "tool_call_id": "c1", "result": CANARY},
            {"type": "tool.execution", "id": "t1", "name": CANARY, "arguments": CANARY, "info": {CANARY: CANARY}},
            {"type": "message.input", "role": "user", "content": CANARY},
        ]
        return {
            **KEPT_KEYS, "inputs": entries, "instructions": CANARY, "name": CANARY, "description": CANARY,
            "tools": [chat_tool],
            "completion_args": {
                "temperature": arguments["temperature"], "stop": [CANARY], "random_seed": 7,
                "prediction": UNKNOWN["prediction"], "response_format": {"type": "json_schema", "json_schema": schema},
            },
        }  # fmt: skip
    elif driver.path == "/messages":
        arguments |= {
            "system": [{"type": "text", "text": CANARY}],
            "messages": [
                {"role": "user", "content": CANARY},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": CANARY, "input": {"a": CANARY}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": CANARY},
                                             {"type": "text", "text": CANARY}]},
            ],
            "tools": [{"name": CANARY, "description": CANARY, "input_schema": TOOL["parameters"]}],
            "tool_choice": {"type": "tool", "name": CANARY}, "stop_sequences": [CANARY], "max_tokens": 64,
        }  # fmt: skip
    else:
        call = {"id": "t1", "type": "function", "function": {"name": CANARY, "arguments": json.dumps({"a": CANARY})}}
        arguments |= {
            "messages": [
                {"role": "system", "content": CANARY},
                {"role": "user", "content": [{"type": "text", "text": CANARY}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "t1", "content": CANARY},
                {"role": "user", "content": CANARY, "name": CANARY},
            ],
            "tools": [chat_tool], "tool_choice": chat_tool | {"function": {"name": CANARY}}, "stop": [CANARY], "seed": 7,
        }  # fmt: skip
    if driver.sdk in WITHOUT_EXTRA_BODY:
        schema = {"name": CANARY, "schema": {CANARY: CANARY}}
        arguments |= {"prediction": UNKNOWN["prediction"], "response_format": {"type": "json_schema", "json_schema": schema}}  # fmt: skip
        if driver.sdk == "openrouter":
            return {**arguments, "plugins": [{"id": "web", "search_prompt": CANARY}]}
        return {"random_seed": arguments.pop("seed"), **arguments}
    if "parse" in driver.name or driver.stream == "helper":
        # These accept strict tools only, or make them themselves.
        for name in ("tools", "tool_choice"):
            arguments.pop(name)
    # Anthropic's SDK has no parameter for the temperature any more.
    temperature = arguments.pop("temperature")
    return {**arguments, "extra_body": {**UNKNOWN, "temperature": temperature}}


def poisoned(value: Any) -> Any:
    """Return a response or an event with unknown fields and keys in every object."""
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    if not isinstance(value, dict):
        return value
    # The SDK validates metadata, which is the caller's own.
    grown = {name: item if name == "metadata" else poisoned(item) for name, item in value.items()}
    if "choices" in grown:
        grown |= {"citations": [CANARY], "search_results": [{"title": CANARY, CANARY: 1}], "cost_note": CANARY}
    if "finish_reason" in grown:
        grown["logprobs"] = {"content": [{"token": CANARY, "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
    if "output_tokens" in grown or "completion_tokens" in grown:
        grown["cost"] = 0.25
    return {**grown, "unheard_of": CANARY, CANARY: 3, "unheard_of_number": 778120417}


def replies_of(driver: Driver) -> list[Reply]:
    body = {"model": "m-1", "stream": bool(driver.stream), "messages": [{"role": "user", "content": CANARY}], "input": CANARY,
            "prompt": CANARY, "stream_options": {"include_usage": True}}  # fmt: skip
    canned = canned_answer(f"/v1{driver.path}", body, serial=1, openrouter=False)
    assert canned is not None
    detail = {"message": f"you said {CANARY}", "code": "invalid_prompt", "type": "invalid", "param": CANARY, CANARY: 1}
    refused = Reply.error(400, {"type": "error", "error": detail, "unheard_of": CANARY})
    if canned.events is None:
        return [Reply.json(poisoned(canned.answer)), refused]
    events = [poisoned(event) for event in canned.events]
    return [Reply.stream(events), refused, Reply.stream(events, cut_after=len(events) - 2)]


@pytest.mark.parametrize("driver", ATTACKED, ids=lambda driver: driver.id)
async def test_client_without_content_sends_no_canary(driver: Driver, server: ReplayServer, pipeline: Pipeline) -> None:
    replies = replies_of(driver)
    server.reply(*replies)
    client = spancast.instrument(driver.make(server))
    caught: list[Exception] = []
    for _ in replies:
        try:
            await outcome(driver, client, **request_of(driver))
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises
            caught.append(error)
    await close(driver, client)
    assert len(server.requests) == len(replies), caught
    assert CANARY in json.dumps([request.body for request in server.requests])
    assert CANARY in str(caught)

    found = assert_no_canary(pipeline)
    calls = [all_attributes(span) for span in found if span.is_generation]
    assert len(calls) == len(replies)
    is_chat = driver.operation != "embeddings"
    for call in calls:
        assert call.items() >= {
            "gen_ai.request.model": "m-1", f"{'gen_ai' if is_chat else 'spancast'}.request.temperature": 0.5,
            "session.id": "session-kept",
            "user.id": "user-kept", "trace.metadata.order": "order-kept", "server.address": "127.0.0.1",
        }.items()  # fmt: skip
    complete, failed, *_ = calls
    if pipeline.must_overflow and is_chat and driver.sdk not in ("mistralai", *http_drivers.HTTP_LIBRARIES):
        assert semconv.OVERFLOW in found[0].attributes
    if is_chat:
        assert complete["gen_ai.response.id" if "gen_ai.response.id" not in driver.lacks else "gen_ai.conversation.id"]
        assert complete["gen_ai.response.finish_reasons"] == ["stop"]
        assert (complete["gen_ai.usage.input_tokens"], complete["gen_ai.usage.output_tokens"]) == (11, 3)
    assert failed["error.type"].endswith("Error") or failed["error.type"] == "invalid_prompt"
    assert failed["spancast.response.status_code"] == 400
    if driver.sdk not in WITHOUT_EXTRA_BODY:
        assert not is_chat or complete["spancast.usage.cost"] == 0.25
        assert complete["spancast.request.top_a"] == 0.25
        assert json.loads(complete["spancast.request.plugins"]) == [{"id": "web", "max_results": 3}]
        named = {f"spancast.request.{name}" for name in ("guided_json", "history", "plugins", "repetition_penalty")}
        assert named <= set(complete[semconv.REDACTED])


# --- web sockets --------------------------------------------------------------------------------------


def socket_script(events: Callable[[str], list[dict[str, Any]]]) -> Callable[[Any, Server], None]:
    """Return a script that answers a request with poisoned ``events``, refuses one, and leaves the third unfinished."""
    error = {"type": "invalid_request_error", "code": "invalid_prompt", "message": f"you said {CANARY}", CANARY: CANARY}

    def script(connection: Any, server: Server) -> None:
        def requested() -> dict[str, Any]:
            while (event := server.next(connection))["type"] != "response.create":
                pass
            return event

        requested()
        say(connection, *poisoned(events("r1")))
        refused = requested()
        of_request = {**error, "event_id": refused.get("event_id")}
        say(connection, {"type": "error", "event_id": "e9", "status": 400, "error": of_request})
        requested()
        say(connection, *poisoned(events("r3")[:2]))
        connection.recv(timeout=30)

    return script


def ask_realtime(client: openai.OpenAI) -> None:
    item: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": CANARY}]}
    call: Any = {"type": "function_call", "call_id": "c1", "name": CANARY, "arguments": json.dumps({CANARY: CANARY})}
    output: Any = {"type": "function_call_output", "call_id": "c1", "output": CANARY}
    tool: Any = {"type": "function", "name": CANARY, **TOOL}
    asked: Any = {
        "max_output_tokens": 50,
        "instructions": CANARY,
        "tools": [tool],
        CANARY: CANARY,
    }
    session: Any = {
        "type": "realtime",
        "instructions": CANARY,
        "tools": [tool],
        "prompt": {"id": "p", "variables": {"a": CANARY}},
    }
    with client.realtime.connect(model="m-1", **KEPT_KEYS) as connection:
        connection.session.update(session=session)
        for given in (item, call, output):
            connection.conversation.item.create(item=given)
        for last in ("response.done", "error", "response.output_audio_transcript.delta"):
            connection.response.create(event_id=f"for {last}", response=asked)
            until(connection, last)


def ask_responses(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "name": CANARY, **TOOL}
    items: Any = [{"role": "developer", "content": CANARY}, {"role": "user", "content": CANARY}]
    with client.responses.connect(**KEPT_KEYS) as connection:
        for last in ("response.completed", "error", "response.output_text.delta"):
            connection.response.create(
                model="m-1", input=items, instructions=CANARY, tools=[tool], max_output_tokens=50
            )
            until(connection, last)


SOCKETS: dict[str, tuple[Callable[[openai.OpenAI], None], Callable[[str], list[dict[str, Any]]]]] = {
    "realtime": (ask_realtime, realtime_events),
    "responses": (ask_responses, lambda identity: response_events(identity, CANARY)),
}


# openai 3.57 opens connections of websockets 17 in a way that is deprecated there.
@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
@pytest.mark.parametrize("way", SOCKETS)
def test_web_socket_without_content_sends_no_canary(way: str, pipeline: Pipeline) -> None:
    ask, events = SOCKETS[way]
    with served(socket_script(events)) as server:
        ask(spancast.instrument(openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="k")))
        assert CANARY in json.dumps(server.received)
    complete, failed, unfinished = map(all_attributes, assert_no_canary(pipeline))
    for call in (complete, failed, unfinished):
        assert call.items() >= {
            "gen_ai.request.model": "m-1", "gen_ai.request.max_tokens": 50, "session.id": "session-kept",
            "user.id": "user-kept", "trace.metadata.order": "order-kept", "server.address": "127.0.0.1",
        }.items()  # fmt: skip
    assert (complete["gen_ai.response.id"], complete["gen_ai.response.finish_reasons"]) == ("r1", ["stop"])
    assert complete["gen_ai.usage.output_tokens"] in (2, 10)
    assert failed["error.type"] == "invalid_prompt"
    assert unfinished["spancast.response.incomplete"] == "closed"


# --- functions --------------------------------------------------------------------------------------

ANSWER: dict[str, Any] = {
    "id": "answer-kept", "object": "chat.completion", "model": "m-1", "type": "message", "role": "assistant",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": CANARY}}],
    "content": [{"type": "text", "text": CANARY}], "stop_reason": "end_turn", "status": "completed",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": CANARY}]}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 3, "input_tokens": 11, "output_tokens": 3, "cost": 0.25,
              CANARY: 1, "note": CANARY},
    "provider": {"a": CANARY}, "summary": CANARY, "score": 778120417, CANARY: CANARY,
}  # fmt: skip


def function_of(kind: str) -> Any:
    """Return a function with text parameters that no dialect knows, and with more such fields in its response."""

    def plain(question: str, history: list[str], *, style: str = "brief", model: str = "m-1", **more: Any) -> Any:
        if more.get("fails"):
            message = f"cannot answer {question}"
            raise ValueError(message)
        return ANSWER

    async def coroutine(question: str, history: list[str], *, model: str = "m-1", **more: Any) -> Any:
        return plain(question, history, **more)

    def generator(question: str, history: list[str], *, model: str = "m-1", **more: Any) -> Any:
        yield CANARY
        yield plain(question, history, **more)

    async def async_generator(question: str, history: list[str], *, model: str = "m-1", **more: Any) -> Any:
        yield {"text": CANARY, CANARY: CANARY}
        yield plain(question, history, **more)

    return {"plain": plain, "coroutine": coroutine, "generator": generator, "async generator": async_generator}[kind]


async def drained(result: Any) -> None:
    if inspect.isawaitable(result):
        await result
    elif hasattr(result, "__aiter__"):
        async for _ in result:
            pass
    elif inspect.isgenerator(result):
        list(result)


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic_messages"])
@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async generator"])
async def test_function_without_content_sends_no_canary(kind: str, dialect: str, pipeline: Pipeline) -> None:
    ask = spancast.instrument(function_of(kind), dialect=dialect)
    more: dict[str, Any] = {
        "temperature": 0.5, "conversation": f"we said {CANARY}", "tool_results": {CANARY: CANARY}, "seed": CANARY,
        "number": 778120417,
    }  # fmt: skip
    await drained(ask(CANARY, [CANARY], model="m-1", session_id="session-kept", **more))
    await drained(
        ask(question=CANARY, history=[{"role": "user", "content": CANARY}], style=CANARY, model="m-1", **more)
    )
    with pytest.raises(ValueError, match=CANARY):
        await drained(ask(CANARY, [], model="m-1", fails=True, **more))

    first, second, failed = map(all_attributes, assert_no_canary(pipeline))
    for call in (first, second, failed):
        assert call["gen_ai.request.temperature"] == 0.5
        assert {"spancast.request.question", "spancast.request.number"} <= set(call[semconv.REDACTED])
    assert first["session.id"] == "session-kept"
    assert "spancast.request.style" in second[semconv.REDACTED]
    assert failed["error.type"] == "ValueError"
    if kind in ("plain", "coroutine"):
        assert (first["gen_ai.response.id"], first["spancast.usage.cost"]) == ("answer-kept", 0.25)
        assert (first["gen_ai.usage.input_tokens"], first["gen_ai.usage.output_tokens"]) == (11, 3)


# --- others -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", PEERS)
def test_span_of_another_instrumentation_sends_no_canary(peer: str, server: ReplayServer, tmp_path: Path) -> None:
    answer, refused = replies_of(OF_EACH_MECHANISM[0])
    server.reply(answer, refused)
    options = {name: value for name, value in request_of(OF_EACH_MECHANISM[0]).items() if name not in KEPT_KEYS}
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path),
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_and_event",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
    }
    with OtlpReceiver() as receiver:
        receiver.answer_with(status(503), ok())
        arguments = [peer, server.base_url, receiver.url, json.dumps({"model": "m-1", **options})]
        command = [sys.executable, "-m", "tests.instrumentation.private_peer_program", *arguments]
        run = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120, text=True)
        assert run.stdout.strip() == "True", run.stderr
        pipeline = Pipeline(TracerProvider(), receiver, tmp_path, must_overflow=False)
        sent = {span.span_id: span for request in receiver.requests for span in read(request.body)}
    for place in (pipeline.sent, pipeline.kept):
        assert b"m-1" in place
        assert CANARY.encode() not in place
    complete, failed = sent.values()
    assert {"m-1", 11, 3} <= {value for value in complete.attributes.values() if not isinstance(value, list)}
    assert failed.status == "error"


FOREIGN: dict[str, Any] = dict.fromkeys(
    (
        "gen_ai.prompt.0.content", "gen_ai.completion.0.tool_calls.0.arguments", "gen_ai.tool.description",
        "gen_ai.request.structured_output_schema", "gen_ai.something.new", "gen_ai.headers", "llm.request.functions.0.name",
        "llm.invocation_parameters", "llm.prompt_template.variables", "llm.something.new", "input.value", "output.value",
        "input.something", "output.something", "traceloop.entity.input", "traceloop.prompt.template_variables.name",
        "traceloop.something", "logfire.msg", "logfire.json_schema", "request_data", "response_data", "events",
        "all_messages_events", "pydantic_ai.all_messages", "final_result", "ai.prompt.messages", "ai.response.text",
        "ai.toolCall.result", "ai.schema.description", "langfuse.observation.input", "langfuse.something",
        "langsmith.something", "mlflow.spanInputs", "mlflow.something", "braintrust.input_json", "braintrust.expected",
        "gcp.vertex.agent.llm_request", "gcp.vertex.agent.tool_response", "lk.chat_ctx", "lk.user_transcript",
        "genkit:input", "genkit:metadata:subtype", "lmnr.span.input", "haystack.component.input", "crewai.task.description",
        "mcp.request.argument", "mcp.response.value", "tool.parameters", "tool.something", "retrieval.documents.0.x",
        "reranker.query", "embedding.embeddings.0.embedding.text", "exception.message", "error.message", "inputs",
        "db.query.result.document", "http.request.body", "openinference.something", "spancast.something",
        semconv.INPUT_MESSAGES, semconv.SYSTEM_INSTRUCTIONS, semconv.TOOL_DEFINITIONS, semconv.RESPONSE_LOGPROBS,
    ),
    CANARY,
)  # fmt: skip
HARMLESS: dict[str, Any] = {
    "gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "m-1", "gen_ai.tool.name": "find",
    "llm.model_name": "m-1", "llm.token_count.prompt": 11, "llm.token_count.completion_details.reasoning": 2,
    "llm.cost.total": 0.25, "openinference.span.kind": "LLM", "input.mime_type": "text/plain", "traceloop.span.kind": "task",
    "traceloop.entity.name": "my task", "traceloop.association.properties.customer": "a customer",
    "ai.usage.promptTokens": 11, "ai.response.msToFirstChunk": 5.5, "langfuse.trace.metadata.order": "my order",
    "langsmith.metadata.order": "my order", "mlflow.spanType": "LLM", "metadata": '{"order": "my order"}',
    "http.url": "http://x.test/v1", "db.statement": "select 1", "tenant": "a tenant", "error.type": "ValueError",
}  # fmt: skip


@pytest.mark.parametrize("pipeline", ["privacy mode"], indirect=True)
def test_attributes_of_conventions_send_no_canary(pipeline: Pipeline) -> None:
    tracer = pipeline.provider.get_tracer("another")
    link = trace_api.Link(trace_api.SpanContext(1, 2, is_remote=False), {"gen_ai.prompt": CANARY})
    with tracer.start_as_current_span("call", attributes={**HARMLESS, **FOREIGN}, links=[link]) as span:
        for name in ("gen_ai.user.message", "gen_ai.choice", "gen_ai.client.inference.operation.details", "llm.event"):
            texts = dict.fromkeys(("content", "anything", "gen_ai.prompt", "gen_ai.anything"), CANARY)
            span.add_event(name, {**texts, "role": "user", "id": f"{CANARY} said", "gen_ai.request.model": "m-1"})
        span.add_event(
            "exception", {"exception.type": "E", "exception.message": CANARY, "exception.stacktrace": CANARY}
        )
        span.add_event("retry", {"attempt": 2})
        span.set_status(trace_api.StatusCode.ERROR, f"you said {CANARY}")
    [sent] = assert_no_canary(pipeline)
    assert {name: value for name, value in sent.attributes.items() if name != semconv.REDACTED} == HARMLESS
    assert {"gen_ai.*", "llm.*", "traceloop.*", "input.*"} <= set(sent.attributes[semconv.REDACTED])
    assert sent.status == "error"
    message = {"role": "user", "gen_ai.request.model": "m-1"}
    assert [dict(event.attributes) for event in sent.events] == [
        *[message] * 4,
        {"exception.type": "E"},
        {"attempt": 2},
    ]


@pytest.mark.parametrize("pipeline", ["privacy mode"], indirect=True)
def test_filter_rules_write_no_content_to_disk(pipeline: Pipeline) -> None:
    odd: dict[str, Any] = {
        semconv.OPERATION_NAME: f"{CANARY} said", semconv.PROVIDER_NAME: f"{CANARY}\nsaid", semconv.REQUEST_MODEL: "m-1",
        semconv.RESPONSE_FINISH_REASONS: [f"{CANARY} said"], semconv.USAGE_COST: CANARY, semconv.USER_ID: "user-kept",
        semconv.USAGE_INPUT_TOKENS: CANARY, semconv.ERROR_TYPE: f"{CANARY} said", semconv.SESSION_ID: "session-kept",
    }  # fmt: skip
    span = pipeline.provider.get_tracer("another").start_span("call", attributes=odd)
    span.set_status(trace_api.StatusCode.ERROR)
    span.end()
    [sent] = pipeline.spans()
    for place in (pipeline.sent, pipeline.kept):
        assert b"m-1" in place
        assert b"user-kept" in place
        assert b"session-kept" in place
        assert CANARY.encode() not in place
    assert sent.attributes["error.type"] == "_OTHER"
