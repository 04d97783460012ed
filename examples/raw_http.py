"""Decorated functions that post JSON without an SDK, streamed or not.

``base_url`` is the address of the request. The span has its provider and server, and trace keys
are forwarded to OpenRouter, so that its Broadcast adds to the same trace.
"""

import json
import os
from collections.abc import Iterator

import httpx

import spancast

BASE_URL = os.environ.get("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1")
HEADERS = {"Authorization": f"Bearer {os.environ.get('OPENROUTER_API_KEY', '')}"}


@spancast.instrument(base_url=BASE_URL)
def complete(**request: object) -> dict[str, object]:
    return httpx.post(f"{BASE_URL}/chat/completions", json=request, headers=HEADERS).raise_for_status().json()


@spancast.instrument(base_url=BASE_URL)
def stream(**request: object) -> Iterator[dict[str, object]]:
    body = {**request, "stream": True}
    with httpx.stream("POST", f"{BASE_URL}/chat/completions", json=body, headers=HEADERS) as response:
        for line in response.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line[6:])


spancast.configure(service_name="raw-http")
messages = [{"role": "user", "content": "Say hello."}]
with spancast.trace(trace_name="Raw HTTP", session_id="chat-42"):
    print(complete(model="openai/gpt-5.2", messages=messages)["choices"][0]["message"]["content"])
    for chunk in stream(model="openai/gpt-5.2", messages=messages, trace={"generation_name": "streamed"}):
        print(chunk["choices"][0]["delta"].get("content", "") if chunk["choices"] else "", end="")
print()
print(spancast.flush())
