"""One conversation of 40 messages with five tools as the request bodies of every chat dialect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spancast.model import json_codec

Json = dict[str, Any]

TURNS = [
    ("assistant" if number % 2 else "user", f"Message {number}: {'where is my order, and when will it arrive? ' * 5}")
    for number in range(40)
]
_SCHEMA: Json = {
    "type": "object",
    "properties": {name: {"type": "string", "description": f"The {name}."} for name in ("city", "day", "unit")},
    "required": ["city"],
}
_NAMES = [f"tool_{number}" for number in range(5)]
_FUNCTIONS = [{"name": name, "description": f"Call {name}.", "parameters": _SCHEMA} for name in _NAMES]
_TOOLS = [{"type": "function", "function": function} for function in _FUNCTIONS]
_MESSAGES = [{"role": role, "content": text} for role, text in TURNS]


def _chat(**more: Any) -> Json:
    return {"model": "m-1", "messages": _MESSAGES, "tools": _TOOLS, **more}


def _responses() -> Json:
    tools = [{"type": "function", **function} for function in _FUNCTIONS]
    return {"model": "m-1", "input": _MESSAGES, "tools": tools}


def _anthropic(**more: Any) -> Json:
    tools = [{"name": name, "description": f"Call {name}.", "input_schema": _SCHEMA} for name in _NAMES]
    return {"model": "m-1", "max_tokens": 9, "messages": _MESSAGES, "tools": tools, **more}


def _gemini() -> Json:
    contents = [{"role": "model" if role == "assistant" else role, "parts": [{"text": text}]} for role, text in TURNS]
    return {"model": "m-1", "contents": contents, "tools": [{"functionDeclarations": _FUNCTIONS}]}


def _interactions() -> Json:
    steps = [
        {
            "type": "model_output" if role == "assistant" else "user_input",
            "content": [{"type": "text", "text": text}],
        }
        for role, text in TURNS
    ]
    return {"model": "m-1", "input": steps, "tools": [{"type": "function", **function} for function in _FUNCTIONS]}


def _converse() -> Json:
    messages = [{"role": role, "content": [{"text": text}]} for role, text in TURNS]
    tools = [
        {"toolSpec": {"name": name, "description": f"Call {name}.", "inputSchema": {"json": _SCHEMA}}}
        for name in _NAMES
    ]
    return {"modelId": "m-1", "model": "m-1", "messages": messages, "toolConfig": {"tools": tools}}


def _cohere_v1() -> Json:
    history = [{"role": "CHATBOT" if role == "assistant" else "USER", "message": text} for role, text in TURNS[:-1]]
    return {"model": "m-1", "message": TURNS[-1][1], "chat_history": history, "tools": _FUNCTIONS}


def _conversation() -> Json:
    entries = [
        {"object": "entry", "type": f"message.{'output' if role == 'assistant' else 'input'}", "role": role,
         "content": text}
        for role, text in TURNS
    ]  # fmt: skip
    return {"model": "m-1", "inputs": entries, "tools": _TOOLS}


def _dashscope() -> Json:
    return {"model": "m-1", "input": {"messages": _MESSAGES}, "parameters": {"tools": _TOOLS}}


def _replicate() -> Json:
    return {"model": "m-1", "input": {"messages": _MESSAGES, "tools": _TOOLS}}


def _xai() -> Json:
    from xai_sdk.proto import chat_pb2

    roles = {"user": chat_pb2.MessageRole.ROLE_USER, "assistant": chat_pb2.MessageRole.ROLE_ASSISTANT}
    messages = [chat_pb2.Message(role=roles[role], content=[chat_pb2.Content(text=text)]) for role, text in TURNS]
    functions = [
        chat_pb2.Function(
            name=str(one["name"]), description=str(one["description"]), parameters=json_codec.encode(_SCHEMA)
        )
        for one in _FUNCTIONS
    ]
    tools = [chat_pb2.Tool(function=function) for function in functions]
    proto = chat_pb2.GetCompletionsRequest(model="m-1", messages=messages, tools=tools)
    return {"model": "m-1", "proto": proto.SerializeToString().decode("latin-1")}


BODIES: dict[str, Callable[[], Json]] = {
    "openai_responses": _responses,
    "anthropic_messages": _anthropic,
    "gemini": _gemini,
    "gemini_interactions": _interactions,
    "bedrock_converse": _converse,
    "bedrock_invoke": lambda: _anthropic(anthropic_version="bedrock-2023-05-31"),
    "cohere_chat": _chat,
    "cohere_chat_v1": _cohere_v1,
    "dashscope_chat": _dashscope,
    "mistral_conversations": _conversation,
    "ollama_chat": _chat,
    "replicate_prediction": _replicate,
    "xai_chat": _xai,
}
"""The body of each dialect; that of Chat Completions is ``CHAT``."""

CHAT = _chat()
