"""A recorded call as code that makes it again: curl and Python. Keys are never recorded, so both read a variable."""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from spancast.encoding.genai_fields import conversation, model_parameters, tools
from spancast.encoding.span_data import SpanData
from spancast.encoding.tree_view import printable
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list, is_mapping

_CHAT: Final = "chat_completions"
_HTTPS: Final = 443
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
    """A call as ``curl`` and ``python``."""

    curl: str
    python: str


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
    return Snippets(_curl(f"{base}/chat/completions", [f'"Authorization: Bearer ${variable}"'], body), python)


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
    return Snippets(_curl(f"{base}/v1/messages", headers, body), python)


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
