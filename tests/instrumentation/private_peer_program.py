"""Make two calls with another instrumentation whose spans go to a destination of ours in privacy mode.

``tests/contract/test_privacy.py`` runs it in a process of its own, as ``peers_program``.
"""

from __future__ import annotations

import contextlib
import json
import sys
from importlib import import_module

import openai
from opentelemetry.sdk.trace import TracerProvider
from tests.instrumentation.peers_program import PEERS

import spancast


def main(peer: str, base_url: str, endpoint: str, request: str) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    to = {"type": "otlp", "endpoint": endpoint, "privacy_mode": True}
    spancast.configure(tracer_provider=provider, destinations={"one": to})
    import_module(PEERS[peer]).OpenAIInstrumentor().instrument(tracer_provider=provider)
    with openai.OpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
        for _ in range(2):
            with contextlib.suppress(openai.BadRequestError):
                client.chat.completions.create(**json.loads(request))
    print(bool(spancast.flush(30)))


if __name__ == "__main__":
    main(*sys.argv[1:])
