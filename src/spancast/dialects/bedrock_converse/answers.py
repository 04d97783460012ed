"""Canned answers of Bedrock Converse, whole and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from spancast.dialects.canned_answers import (
    CannedAnswer,
    CannedAnswers,
    Json,
    ToolCalls,
    error_of,
    last_user_text,
    numbered,
    split,
)

_CODES: Final = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


def converse_answer(
    text: str | None = "Hello!",
    *,
    tool_calls: ToolCalls = (),
    reasoning: str | None = None,
    usage: Mapping[str, Any] | None = None,
) -> Json:
    """Return a response; ``reasoning`` is a signed block."""
    content: list[Json] = []
    if reasoning is not None:
        content.append({"reasoningContent": {"reasoningText": {"text": reasoning, "signature": "c2lnbmF0dXJl"}}})
    if text is not None:
        content.append({"text": text})
    for call_id, name, arguments in numbered(tool_calls):
        content.append({"toolUse": {"toolUseId": call_id, "name": name, "input": orjson.loads(arguments)}})
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "tool_use" if tool_calls else "end_turn",
        "usage": dict(usage if usage is not None else _usage(25, 10)),
        "metrics": {"latencyMs": 120},
    }


def converse_events(answer: Mapping[str, Any], *, pieces: int = 2) -> list[Json]:
    """Return ``answer`` as stream events, each text and each tool input cut in up to ``pieces`` parts."""
    message = answer["output"]["message"]
    events: list[Json] = [{"messageStart": {"role": message["role"]}}]
    for index, block in enumerate(message["content"]):
        events += _block_events(index, block, pieces)
    events.append({"messageStop": {"stopReason": answer["stopReason"]}})
    events.append({"metadata": {name: answer[name] for name in ("usage", "metrics", "trace") if name in answer}})
    return events


def _block_events(index: int, block: Mapping[str, Any], pieces: int) -> list[Json]:
    deltas: list[Json] = []
    events: list[Json] = []
    if "text" in block:
        deltas = [{"text": part} for part in split(block["text"], pieces)]
    elif "reasoningContent" in block:
        reasoning = block["reasoningContent"]["reasoningText"]
        deltas = [{"reasoningContent": {"text": part}} for part in split(reasoning["text"], pieces)]
        deltas.append({"reasoningContent": {"signature": reasoning["signature"]}})
    else:
        call = block["toolUse"]
        start = {"toolUse": {"toolUseId": call["toolUseId"], "name": call["name"]}}
        events.append({"contentBlockStart": {"start": start, "contentBlockIndex": index}})
        deltas = [{"toolUse": {"input": part}} for part in split(orjson.dumps(call["input"]).decode(), pieces)]
    events += ({"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}} for delta in deltas)
    return [*events, {"contentBlockStop": {"contentBlockIndex": index}}]


def _usage(tokens_in: int, tokens_out: int) -> Json:
    cache = {"cacheReadInputTokens": 0, "cacheWriteInputTokens": 0}
    return {"inputTokens": tokens_in, "outputTokens": tokens_out, "totalTokens": tokens_in + tokens_out, **cache}


def aws_error_body(status: int) -> Json:
    """Return an error as AWS sends it, with its code in the body instead of a header."""
    return {"message": error_of(status)[0], "__type": _CODES.get(status, "ModelErrorException")}


class _ConverseAnswers(CannedAnswers):
    """Answers of ``/converse`` and ``/converse-stream``."""

    def serves(self, path: str) -> bool:
        """Return whether ``path`` ends with that of an endpoint."""
        return path.endswith(("/converse", "/converse-stream"))

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:  # noqa: ARG002 - the protocol's
        """Return an answer that echoes the last user message; four characters count as a token."""
        text = last_user_text(body) or "Hello!"
        tokens_out = -(-len(text) // 4)
        whole = converse_answer(text, usage=_usage(tokens_out + 8, tokens_out))
        events = converse_events(whole) if path.endswith("-stream") else None
        return CannedAnswer(answer=whole, events=events, aws="events")

    def error_body(self, status: int, *, openrouter: bool) -> Json:  # noqa: ARG002 - the same for every server
        """Return an error of AWS."""
        return aws_error_body(status)


ANSWERS: Final = _ConverseAnswers()
