"""Make calls with another instrumentation and ours, and print the spans of each.

The first call is a decorated function, without our patches on the SDK. ``test_other_instrumentations.py`` runs one
process per library: some libraries leave wrappers when removed.
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


def main(peer: str, base_url: str) -> None:
    found: dict[str, list[tuple[str, Any]]] = {}
    with captured_spans() as spans, openai.OpenAI(base_url=base_url, api_key="k") as client:

        def keep(case: str) -> None:
            seen = sum(len(of_case) for of_case in found.values())
            found[case] = [(span.instrumentation_scope.name, attributes(span)) for span in spans.all()[seen:]]

        import_module(PEERS[peer]).OpenAIInstrumentor().instrument(tracer_provider=spans.provider)
        decorated = spancast.instrument(lambda **request: client.chat.completions.create(**request))
        decorated(model="m", messages=MESSAGES)
        keep("decorated")
        spancast.instrument()
        with spancast.trace(session_id="chat-42", tier=2):
            client.chat.completions.create(model="m", messages=MESSAGES)
            keep("whole")
            list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
            keep("streamed")
    print(json.dumps(found, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
