"""The protocol of canned answers of the replay server, and the parts that several dialects use.

A canned answer is plain JSON, whole or as stream events with the same content and usage. No SDK is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

import orjson

from spancast.dialects.accessors import fields, items

Json: TypeAlias = dict[str, Any]

ToolCalls: TypeAlias = Sequence[tuple[str, Mapping[str, Any]]]
"""Name and arguments of each call; ids are ``call_1``, ``call_2``, ... in every format."""

CREATED: Final = 1_790_700_000
"""The creation time of every canned answer, in Unix seconds: constant, so that runs can be compared."""

_ERRORS: Final[Mapping[int, tuple[str, str, str]]] = {
    # status: message, code (OpenRouter's error_type), type (OpenAI's and Anthropic's)
    400: ("Invalid request parameters", "invalid_request", "invalid_request_error"),
    401: ("Missing Authentication header", "authentication", "authentication_error"),
    402: ("Insufficient credits", "payment_required", "billing_error"),
    403: ("Request blocked", "permission_denied", "permission_error"),
    404: ("Resource not found", "not_found", "not_found_error"),
    408: ("Operation timed out. Please try again later.", "timeout", "timeout_error"),
    413: ("Request payload too large", "payload_too_large", "request_too_large"),
    422: ("Invalid argument", "unprocessable", "invalid_request_error"),
    429: ("Rate limit exceeded", "rate_limit_exceeded", "rate_limit_error"),
    500: ("Internal Server Error", "server", "api_error"),
    502: ("Provider returned error", "provider_unavailable", "api_error"),
    503: ("Service temporarily unavailable", "provider_overloaded", "overloaded_error"),
    504: ("Operation timed out. Please try again later.", "timeout", "timeout_error"),
    524: ("Request timed out. Please try again later.", "timeout", "timeout_error"),
    529: ("Provider returned error", "provider_overloaded", "overloaded_error"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CannedAnswer:
    """An answer to one request, whole, and as ``events`` if the request asked for a stream."""

    answer: Json
    events: list[Json] | None
    done: bool = False
    """Whether ``[DONE]`` ends the stream."""
    ndjson: bool = False
    """Whether the stream is a JSON object per line, instead of server-sent events."""

    aws: Literal["", "events", "chunks"] = ""
    """The form of the events in an event stream of AWS; empty for server-sent events."""


class CannedAnswers(Protocol):
    """The canned answers at the endpoints of one dialect."""

    def serves(self, path: str) -> bool:
        """Return whether ``path`` is an endpoint of this dialect."""
        ...

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:
        """Return an answer that echoes the last user message.

        ``serial`` makes its id unique. With ``openrouter`` it has the fields that OpenRouter adds, such as the cost.
        """
        ...

    def error_body(self, status: int, *, openrouter: bool) -> Json:
        """Return the JSON of an error with HTTP ``status``."""
        ...


class EchoAnswers(CannedAnswers):
    """Canned answers of a dialect that posts JSON with ``model`` and ``stream``."""

    paths: tuple[str, ...]
    """The ends of the paths of its endpoints."""

    model: str
    """The model of the answer if the request names none."""

    id_prefix: str
    done: bool = False
    """Whether ``[DONE]`` ends its streams."""
    ndjson: bool = False
    """Whether its streams are a JSON object per line."""

    def serves(self, path: str) -> bool:
        """Return whether ``path`` ends with that of an endpoint."""
        return path.endswith(self.paths)

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:  # noqa: ARG002 - the protocol's
        """Return an answer that echoes the last user message; four characters count as a token."""
        text = last_user_text(body) or "Hello!"
        tokens_out = -(-len(text) // 4)
        whole = self.whole(
            text,
            model=str(body.get("model") or self.model),
            tokens=(tokens_out + 8, tokens_out),
            cost=tokens_out * 2e-6 if openrouter else None,
            answer_id=f"gen-{CREATED}-{serial:020}" if openrouter else f"{self.id_prefix}{serial}",
        )
        events = self.events(whole, body, openrouter=openrouter) if body.get("stream") else None
        return CannedAnswer(answer=whole, events=events, done=self.done, ndjson=self.ndjson)

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:
        """Return a whole answer of ``tokens`` input and output tokens."""
        raise NotImplementedError

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:
        """Return ``answer`` as the stream events that the request ``body`` asks for."""
        raise NotImplementedError

    def error_body(self, status: int, *, openrouter: bool) -> Json:
        """Return an error in OpenRouter's or OpenAI's envelope."""
        return error_body(status, openrouter=openrouter)


def error_of(status: int) -> tuple[str, str, str]:
    """Return message, code and type of an error with HTTP ``status``."""
    return _ERRORS.get(status, ("Request failed", "unmapped", "api_error"))


def error_body(status: int, *, openrouter: bool) -> Json:
    """Return the JSON of an error in OpenRouter's or OpenAI's envelope, as most providers have it."""
    message, code, kind = error_of(status)
    if openrouter:
        return {"error": {"code": status, "message": message, "metadata": {"error_type": code}}}
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def last_user_text(body: Mapping[str, Any]) -> str:
    """Return the text of the last user message of a request in any of the three formats, else ``""``."""
    messages = body.get("messages") or body.get("input") or body.get("prompt")
    if isinstance(messages, str):
        return messages
    asked = [fields(message).get("content") for message in items(messages) if fields(message).get("role") == "user"]
    content = asked[-1] if asked else None
    if isinstance(content, str):
        return content
    return "".join(str(fields(part).get("text") or "") for part in items(content))


def split(text: str | None, pieces: int) -> list[str]:
    """Return ``text`` in up to ``pieces`` parts; none if it is empty."""
    if not text:
        return []
    size = -(-len(text) // max(1, pieces))
    return [text[start : start + size] for start in range(0, len(text), size)]


def numbered(tool_calls: ToolCalls) -> Iterator[tuple[str, str, str]]:
    """Return id, name and arguments (JSON text) of each call."""
    for number, (name, arguments) in enumerate(tool_calls, start=1):
        yield f"call_{number}", name, compact(arguments)


def compact(value: object) -> str:
    """Return ``value`` as JSON text."""
    return orjson.dumps(value).decode()


def openrouter_cost(cost: float, input_key: str, output_key: str) -> Json:
    """Return the usage fields in which OpenRouter reports ``cost`` in USD."""
    # OpenRouter's own samples split a cost 40 : 60; what matters is that the parts sum to the whole.
    prompt = cost * 0.4
    details = {"upstream_inference_cost": None, input_key: prompt, output_key: cost - prompt}
    return {"cost": cost, "is_byok": False, "cost_details": details}


def openrouter_provider(model: str) -> str:
    """Return the provider that OpenRouter names for ``model``."""
    if "claude" in model:
        return "Anthropic"
    return {"google": "Google", "mistralai": "Mistral"}.get(model.partition("/")[0], "OpenAI")
