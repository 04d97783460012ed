"""Make one call with another instrumentation beside ours and print the spans; run by ``test_peers``.

A process of its own: some of these leave their wrappers behind when they are taken off.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

import openai

import spancast
from spancast.testing import captured_spans
from spancast.testing.spans import attributes

PEERS = {
    "genai-openai": "opentelemetry.instrumentation.genai.openai",
    "openinference": "openinference.instrumentation.openai",
    "openllmetry": "opentelemetry.instrumentation.openai",
}
MESSAGES: Any = [{"role": "user", "content": "hi"}]


def main(peer: str, case: str, base_url: str) -> None:
    with captured_spans() as spans, openai.OpenAI(base_url=base_url, api_key="k") as client:
        import_module(PEERS[peer]).OpenAIInstrumentor().instrument(tracer_provider=spans.provider)
        if case == "decorated":
            decorated = spancast.instrument(lambda **request: client.chat.completions.create(**request))
            decorated(model="m", messages=MESSAGES)
        else:
            spancast.instrument()
            with spancast.trace(session_id="chat-42", tier=2):
                answer: Any = client.chat.completions.create(model="m", messages=MESSAGES, stream=case == "streamed")
                if case == "streamed":
                    list(answer)
        found = [(span.instrumentation_scope.name, attributes(span)) for span in spans.all()]
    print(json.dumps(found, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
