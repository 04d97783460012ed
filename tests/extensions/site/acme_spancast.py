"""A spancast extension for the SDK ``acme_llm``: a client, a dialect, a destination."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from spancast.destinations.config import DestinationConfig
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Outcome, Payload
from spancast.destinations.registry import DestinationType
from spancast.dialects.canned_answers import CannedAnswer, Json
from spancast.dialects.protocol import Dialect, StreamReader
from spancast.instrumentation.patching import ClientPatches, ClientSpec, InstancePatch, InstrumentedClients, Patch
from spancast.instrumentation.stream_recorder import StreamRecorder, record_iterator
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model.call import Attributes, Request, Response
from spancast.model.providers import server_of
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import TracedCall


class _Stream(StreamReader):
    def __init__(self, content: bool) -> None:
        self._content = content
        self._response: dict[str, Any] = {"text": ""}

    def feed(self, chunk: Any) -> None:
        if isinstance(chunk, dict):
            self._response = {**self._response, **chunk, "text": self._response["text"] + str(chunk.get("text") or "")}

    def result(self) -> Response:
        return DIALECT.read_response(self._response, content=self._content)


class AcmeDialect(Dialect):
    name = "acme"
    provider = "acme"
    operation = "generate_content"
    answers = "acme_spancast:ANSWERS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        message = {"role": "user", "parts": [{"type": "text", "content": body.get("prompt")}]}
        return Request(model=body.get("model"), messages=[message] if content else [])

    def read_response(self, answer: Any, *, content: bool) -> Response:
        fields = answer if isinstance(answer, dict) else {}
        text = fields.get("text")
        message = {"role": "assistant", "parts": [{"type": "text", "content": text}]}
        is_text = content and isinstance(text, str) and text
        tokens = fields.get("tokens")
        return Response(
            id=fields.get("id") if isinstance(fields.get("id"), str) else None,
            messages=[message] if is_text else [],
            usage={"gen_ai.usage.output_tokens": tokens} if type(tokens) is int else {},
        )

    def new_stream(self, *, content: bool) -> StreamReader:
        return _Stream(content)

    def error_attributes(self, error: BaseException) -> Attributes:
        if not hasattr(error, "status"):
            return {}
        return {"error.type": error.status, "spancast.response.status_code": error.http}


class _Answers:
    def serves(self, path: str) -> bool:
        return path.startswith("/models/")

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:
        answer: Json = {"id": f"a-{serial}", "text": str(body["prompt"]), "tokens": 3}
        chunks: list[Json] = [{"id": f"a-{serial}", "text": letter} for letter in answer["text"]]
        return CannedAnswer(answer=answer, events=[*chunks, {"tokens": 3}] if path.endswith(":stream") else None)

    def error_body(self, status: int, *, openrouter: bool) -> Json:
        return {"status": "RESOURCE_EXHAUSTED"}


class _Call(CallDescription):
    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:
        if not INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        sent = {name: value for name, value in kwargs.items() if name not in ("trace", "session_id")}
        body = {**dict(zip(("model", "prompt"), args, strict=False)), **kwargs}
        return CALL_TRACER.start_call(DIALECT, body, server_of(owner.base_url)), args, sent, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> object | None:
        if inspect.isgenerator(result):
            return record_iterator(result, StreamRecorder(traced_call))
        traced_call.end_with(result)
        return None


DIALECT = AcmeDialect()
ANSWERS = _Answers()
INSTRUMENTED = InstrumentedClients()
_HOOKS = wrap_call(_Call())
PATCHES = ClientPatches(
    dialects=("acme",),
    patches=(
        Patch("acme_llm", "Client.generate", _HOOKS.sync),
        Patch("acme_llm", "Client.stream", _HOOKS.sync),
        Patch("acme_llm", "Client.generate_async", _HOOKS.asynchronous),
    ),
    instance_patches=(
        InstancePatch("generate", _HOOKS.sync),
        InstancePatch("stream", _HOOKS.sync),
        InstancePatch("generate_async", _HOOKS.asynchronous),
    ),
    instrumented=INSTRUMENTED,
)
CLIENT = ClientSpec(
    name="acme", distribution="acme", packages=("acme_llm",), min_version="1.0", patches="acme_spancast:PATCHES"
)


class AcmeConfig(DestinationConfig, frozen=True):
    """A list in this process."""

    type: Literal["acme"]
    project: str

    def place(self) -> Place:
        return Place(address={"project": self.project})


class AcmeDestination:
    received: ClassVar[list[bytes]] = []

    def __init__(self, config: AcmeConfig, encoder: Any) -> None:
        self.encoder = encoder

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        self.received.append(payload.json)
        return Delivered()

    def test_connection(self, timeout_s: float) -> Outcome:
        return Delivered()

    def close(self) -> None:
        pass


DESTINATION = DestinationType(
    title="Acme",
    about="A list in this process.",
    config="acme_spancast:AcmeConfig",
    factory="acme_spancast:AcmeDestination",
)
