"""Other instrumentations installed beside ours: never a second span for one call (pains A12)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as GenAI
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry

import spancast
from spancast.testing import CapturedSpans, ReplayServer
from spancast.testing.spans import attributes

PEERS: dict[str, Callable[[], Any]] = {
    "genai-openai": GenAI,
    "openinference": OpenInference,
    "openllmetry": OpenLLMetry,
}


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest, spans: CapturedSpans) -> Iterator[str]:
    instrumentor = PEERS[request.param]()
    instrumentor.instrument(tracer_provider=spans.provider, skip_dep_check=True)
    yield request.param
    instrumentor.uninstrument()


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
def test_a_peer_around_us_keeps_its_span_and_gets_our_keys(
    peer: str, is_stream: bool, server: ReplayServer, spans: CapturedSpans
) -> None:
    spancast.instrument()
    with openai.OpenAI(base_url=server.base_url, api_key="k") as client, spancast.trace(session_id="chat-42", tier=2):
        answer = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=is_stream
        )
        if is_stream:
            list(answer)  # pyright: ignore[reportArgumentType]
    span = spans.one()
    assert span.instrumentation_scope.name != "spancast"
    assert attributes(span).items() >= {"session.id": "chat-42", "trace.metadata.tier": 2}.items()


def test_a_peer_inside_a_decorated_call_is_quiet(peer: str, server: ReplayServer, spans: CapturedSpans) -> None:
    with openai.OpenAI(base_url=server.base_url, api_key="k") as client:

        @spancast.instrument
        def complete(**request: Any) -> Any:
            return client.chat.completions.create(**request)

        complete(model="m", messages=[{"role": "user", "content": "hi"}])
    scopes = [span.instrumentation_scope.name for span in spans.all()]
    if peer == "openinference":
        # It honours only the key that would silence HTTP instrumentations too, which users want to keep.
        assert scopes.count("spancast") == 1
    else:
        assert scopes == ["spancast"]
