"""A recorded call as code that makes it again: curl, Python, and a test with the recorded response.

Keys are never recorded, so curl and Python read a variable.
"""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from spancast.encoding.genai_fields import answers, conversation, finish_reason, model_parameters, tools
from spancast.encoding.span_data import SpanData
from spancast.encoding.tree_view import printable
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list, is_mapping

_CHAT: Final = "chat_completions"
_HTTPS: Final = 443
_NS_PER_S: Final = 1_000_000_000
_STOP_REASONS: Final[Mapping[str, str]] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_LINE: Final = 84
_MAX_TOKENS: Final = 1024
_OUR_PARAMETERS: Final = frozenset(
    {"stream", "choice.count", "reasoning.level", "stop_sequences", "previous_response.id"}
)
_RENAMED: Final[Mapping[str, str]] = {
    "choice.count": "n",
    "reasoning.level": "reasoning_effort",
    "stop_sequences": "stop",
}


class Snippets(NamedTuple):
    """A call as ``curl``, ``python`` and ``pytest``; the last is empty if the response is not known."""

    curl: str
    python: str
    pytest: str


class _Sdk(NamedTuple):
    """How the SDK of a format is called, and where its response has the text and the name of the last tool call."""

    client: str
    address: str
    method: str
    text: str
    tool: str


_OPENAI: Final = _Sdk(
    "openai.OpenAI",
    "server.base_url",
    "client.chat.completions.create",
    "response.choices[0].message.content",
    "response.choices[0].message.tool_calls[-1].function.name",
)
_ANTHROPIC: Final = _Sdk(
    "anthropic.Anthropic",
    "server.url",
    "client.messages.create",
    "response.content[0].text",
    "response.content[-1].name",
)


def snippets(span: SpanData) -> Snippets | None:
    """Return the call of ``span`` as code; None if its messages or their format are not known well enough."""
    request = conversation(span)
    if request is None or span.first(semconv.OPERATION_NAME) != "chat":
        return None
    if span.text(semconv.OPENAI_API_TYPE) == _CHAT:
        return _chat(span, request["messages"])
    if span.text(semconv.RESPONSE + "object") == "message" or span.text(semconv.PROVIDER_NAME) == "anthropic":
        return _anthropic(span, request["messages"])
    return None


def _server(span: SpanData, default: str) -> str:
    address, port = printable(span.text(semconv.SERVER_ADDRESS) or default), span.count(semconv.SERVER_PORT)
    return f"https://{address}" if port in (None, _HTTPS) else f"http://{address}:{port}"


def _chat(span: SpanData, messages: list[dict[str, Any]]) -> Snippets:
    body = {"model": span.text(semconv.REQUEST_MODEL), "messages": messages, **_parameters(span)}
    if offered := tools(span):
        body["tools"] = [_chat_tool(one) for one in offered]
    base = _server(span, "api.openai.com") + (
        "/api/v1" if span.text(semconv.SERVER_ADDRESS) == "openrouter.ai" else "/v1"
    )
    variable = "OPENROUTER_API_KEY" if "openrouter" in base else "OPENAI_API_KEY"
    python = (
        "import os\n\nimport openai\n\n"
        f"client = openai.OpenAI(base_url={base!r}, api_key=os.environ[{variable!r}])\n"
        f"request = {_literal(body)}\n"
        "print(client.chat.completions.create(**request))\n"
    )
    curl = _curl(f"{base}/chat/completions", [f'"Authorization: Bearer ${variable}"'], body)
    return Snippets(curl, python, _test(span, _OPENAI, body, _chat_answer(span)))


def _anthropic(span: SpanData, messages: list[dict[str, Any]]) -> Snippets:
    parameters = _parameters(span)
    parameters.setdefault("max_tokens", _MAX_TOKENS)
    system = [one["content"] for one in messages if one.get("role") == "system"]
    body: dict[str, Any] = {"model": span.text(semconv.REQUEST_MODEL), **parameters}
    if system:
        body["system"] = system[0]
    body["messages"] = [_anthropic_message(one) for one in messages if one.get("role") != "system"]
    if offered := tools(span):
        body["tools"] = [_anthropic_tool(one) for one in offered]
    base = _server(span, "api.anthropic.com")
    headers = ['"x-api-key: $ANTHROPIC_API_KEY"', '"anthropic-version: 2023-06-01"']
    python = (
        "import os\n\nimport anthropic\n\n"
        f"client = anthropic.Anthropic(base_url={base!r}, api_key=os.environ['ANTHROPIC_API_KEY'])\n"
        f"request = {_literal(body)}\n"
        "print(client.messages.create(**request))\n"
    )
    curl = _curl(f"{base}/v1/messages", headers, body)
    return Snippets(curl, python, _test(span, _ANTHROPIC, body, _anthropic_answer(span)))


def _test(span: SpanData, sdk: _Sdk, body: dict[str, Any], answer: dict[str, Any] | None) -> str:
    """Return the call as a test: a local server sends the recorded response, or the recorded error."""
    package = sdk.client.partition(".")[0]
    status = span.count(semconv.RESPONSE + "status_code")
    error = json_codec.decode(span.text(semconv.RESPONSE + "error") or "")
    if status is not None and error:
        reply = f"Reply.error({status}, RESPONSE)"
        call = f"with pytest.raises({package}.APIStatusError) as raised:\n                {sdk.method}(**REQUEST)"
        checks = [f"raised.value.status_code == {status}", "raised.value.response.json() == RESPONSE"]
        answer = {"error": error} if package == "openai" else error
    elif answer is None:
        return ""
    else:
        reply, call = "Reply.json(RESPONSE)", f"response = {sdk.method}(**REQUEST)"
        said, called = _said(span)
        checks = [f"{sdk.text} == {said!r}"] if said else []
        checks += [f"{sdk.tool} == {called!r}"] if called else []
    request = {name: value for name, value in body.items() if name != "stream"}
    note = "    # The recorded call was streamed; here the same response arrives whole.\n" if "stream" in body else ""
    assertions = [*checks, 'server.requests[0].body["messages"] == REQUEST["messages"]']
    imports = f"import {package}\n" + ("import pytest\n" if "pytest" in call else "")
    return (
        f"{imports}from spancast.testing import Reply, ReplayServer\n\n"
        f"REQUEST = {_literal(request)}\nRESPONSE = {_literal(answer)}\n\n\n"
        f"def test_recorded_call() -> None:\n{note}    with ReplayServer() as server:\n"
        f"        # One reply for each request: the SDK does not retry here.\n        server.reply({reply})\n"
        f'        with {sdk.client}(base_url={sdk.address}, api_key="test", max_retries=0) as client:\n'
        f"            # Call your own code here, with this client, and check what it does with the response.\n"
        f"            {call}\n" + "".join(f"    assert {one}\n" for one in assertions)
    )


def _said(span: SpanData) -> tuple[str, str]:
    """Return the text of the first choice and the name of its last tool call; empty if there is none."""
    found = answers(span) or [{}]
    calls: list[dict[str, Any]] = found[0].get("tool_calls") or []
    return str(found[0].get("content") or ""), str(calls[-1]["function"]["name"]) if calls else ""


def _chat_answer(span: SpanData) -> dict[str, Any] | None:
    found = answers(span)
    if not found:
        return None
    choices = [
        {"index": index, "finish_reason": one.pop("finish_reason", "stop"), "message": one}
        for index, one in enumerate(map(dict, found))
    ]
    sent, received = span.count(semconv.USAGE_INPUT_TOKENS) or 0, span.count(semconv.USAGE_OUTPUT_TOKENS) or 0
    return {
        "id": span.text(semconv.RESPONSE_ID) or "chatcmpl-1",
        "object": "chat.completion",
        "created": span.end_ns // _NS_PER_S,
        "model": span.text(semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL),
        "choices": choices,
        "usage": {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received},
    }


def _anthropic_answer(span: SpanData) -> dict[str, Any] | None:
    found = answers(span)
    if not found:
        return None
    content = _anthropic_message(found[0])["content"]
    reason = finish_reason(span)
    return {
        "id": span.text(semconv.RESPONSE_ID) or "msg_1",
        "type": "message",
        "role": "assistant",
        "model": span.text(semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL),
        "content": [{"type": "text", "text": content}] if isinstance(content, str) else content or [],
        "stop_reason": _STOP_REASONS.get(reason or "", reason),
        "stop_sequence": None,
        "usage": {
            "input_tokens": span.count(semconv.USAGE_INPUT_TOKENS) or 0,
            "output_tokens": span.count(semconv.USAGE_OUTPUT_TOKENS) or 0,
        },
    }


def _parameters(span: SpanData) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in model_parameters(span).items():
        decoded = json_codec.decode(value) if isinstance(value, str) and value[:1] in ("{", "[") else None
        if name not in _OUR_PARAMETERS:
            found[name] = value if decoded is None else decoded
        elif name in _RENAMED:
            found[_RENAMED[name]] = value
    if span.first(semconv.REQUEST_STREAM) is True:
        found["stream"] = True
    return found


def _chat_tool(tool: object) -> object:
    if not is_mapping(tool) or "function" in tool:
        return tool
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _anthropic_tool(tool: object) -> object:
    if not is_mapping(tool) or "parameters" not in tool:
        return tool
    named = {name: value for name, value in tool.items() if name not in ("type", "parameters")}
    return {**named, "input_schema": tool["parameters"]}


def _anthropic_message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if message.get("role") == "tool":
        return {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": content}],
        }
    calls = message.get("tool_calls")
    if not is_list(calls):
        return {"role": message.get("role"), "content": content}
    blocks: list[dict[str, Any]] = [{"type": "text", "text": content}] if content else []
    for call in calls:
        function = call["function"]
        arguments: Any = json_codec.decode(function["arguments"])
        blocks.append(
            {
                "type": "tool_use",
                "id": call.get("id"),
                "name": function["name"],
                "input": arguments if is_mapping(arguments) else {},
            }
        )
    return {"role": message.get("role"), "content": blocks}


def _curl(address: str, headers: list[str], body: Mapping[str, Any]) -> str:
    lines = [f"curl {shlex.quote(address)}", *(f"-H {one}" for one in headers), "-H 'Content-Type: application/json'"]
    return " \\\n  ".join([*lines, f"-d {shlex.quote(json.dumps(body, ensure_ascii=True, indent=1))}"]) + "\n"


def _literal(value: object) -> str:
    # `repr` escapes what would reverse the direction of the text after it, and other marks that are not printed.
    return pprint.pformat(value, width=_LINE, sort_dicts=False)
