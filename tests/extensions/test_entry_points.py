"""An installed distribution that adds an SDK, its dialect and a destination by entry points."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spancast
from spancast.errors import ConfigError
from spancast.runtime import RUNTIME
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

SITE = Path(__file__).parent / "site"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(SITE)
    yield
    spancast.uninstrument()
    RUNTIME.instrumentors.pop("acme", None)
    for name in ("acme_llm", "acme_spancast"):
        sys.modules.pop(name, None)


def client(server: ReplayServer) -> Any:
    import acme_llm

    return acme_llm.Client(server.url)


KEYS = {"trace": {"feature": "billing"}}
OUTPUT = [{"role": "assistant", "parts": [{"type": "text", "content": "hi"}]}]


async def test_client_of_an_installed_distribution_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    acme = client(server)
    assert spancast.instrument(acme) is acme
    assert acme.generate("m-1", "hi", **KEYS) == {"id": "a-1", "text": "hi", "tokens": 3}
    assert [chunk.get("text") for chunk in acme.stream("m-1", "hi", **KEYS)] == ["h", "i", None]
    assert (await acme.generate_async("m-1", "hi", **KEYS))["id"] == "a-3"
    assert [span.name for span in spans.all()] == ["generate_content m-1"] * 3
    for span in spans.all():
        found = attributes(span)
        assert found["gen_ai.operation.name"] == "generate_content"
        assert found["gen_ai.provider.name"] == "acme"
        assert found["gen_ai.output.messages"] == OUTPUT
        assert found["gen_ai.usage.output_tokens"] == 3
        assert found["trace.metadata.feature"] == "billing"


def test_error_has_the_attributes_that_the_dialect_reads(server: ReplayServer, spans: CapturedSpans) -> None:
    acme = spancast.instrument(client(server))
    server.reply(Reply.error(429))
    with pytest.raises(Exception, match="429 RESOURCE_EXHAUSTED"):
        acme.generate("m-1", "hi")
    found = attributes(spans.one())
    assert found["error.type"] == "RESOURCE_EXHAUSTED"
    assert found["spancast.response.status_code"] == 429


def test_instrument_without_target_includes_installed_clients(
    server: ReplayServer, spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    spancast.instrument()
    client(server).generate("m-1", "hi")
    assert spans.one().name == "generate_content m-1"
    assert "entry point broken = acme_spancast:NOTHING of spancast.clients: AttributeError; left out" in caplog.text


def test_instrument_by_the_name_of_an_installed_client(server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.instrument("acme")
    client(server).generate("m-1", "hi")
    spancast.uninstrument("acme")
    client(server).generate("m-1", "hi")
    assert len(spans.all()) == 1


def test_function_in_an_installed_dialect_is_recorded(spans: CapturedSpans) -> None:
    @spancast.instrument(dialect="acme")
    def generate(*, model: str, prompt: str) -> dict[str, Any]:
        return {"text": prompt, "model": model}

    generate(model="m-1", prompt="hi")
    assert spans.one().name == "generate_content m-1"
    assert attributes(spans.one())["gen_ai.output.messages"] == OUTPUT


def test_unknown_name_error_lists_installed_names_and_warns_of_broken_ones(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=r"unknown SDK 'acmee'; expected one of openai, .*, acme$"):
        spancast.instrument("acmee")
    with pytest.raises(ConfigError, match=r"unknown dialect 'acmee'; expected one of openai_chat, .*, acme$"):
        spancast.instrument(lambda: None, dialect="acmee")
    assert (
        "entry point wrong = acme_spancast:INSTRUMENTED of spancast.dialects:"
        " expected an object of a subclass of spancast's Dialect, got InstrumentedClients; left out"
    ) in caplog.text


def test_entry_points_are_not_read_for_our_own_names() -> None:
    code = (
        "import sys, spancast, openai, json;"
        "spancast.instrument('openai'); spancast.instrument(openai.OpenAI(api_key='k'));"
        "spancast.instrument(lambda: None, dialect='openai_chat');"
        "spancast.configure(destinations={'a': {'type': 'console'}});"
        "print(json.dumps([name for name in sys.modules if name.startswith('acme')]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONPATH": str(SITE)})
    assert json.loads(run.stdout) == []


def test_destination_type_of_an_installed_distribution_is_used(
    server: ReplayServer, caplog: pytest.LogCaptureFixture
) -> None:
    spancast.configure(spool="memory", destinations={"mine": {"type": "Acme", "project": "p"}})
    spancast.instrument("acme")
    client(server).generate("m-1", "hi")
    report = spancast.flush(60)
    spancast.shutdown()
    import acme_spancast

    assert report.destinations["mine"].delivered == 1, str(report)
    assert b"generate_content m-1" in acme_spancast.AcmeDestination.received[0]
    assert not caplog.records


def test_invalid_field_of_an_installed_type_is_named() -> None:
    with pytest.raises(ConfigError, match=r"destinations.mine.project: is missing"):
        spancast.configure(destinations={"mine": {"type": "acme"}})


def test_type_that_cannot_be_loaded_is_unknown_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=r"destinations.mine.type: .*gone"):
        spancast.configure(destinations={"mine": {"type": "gone"}})
    assert "entry point gone = acme_gone:DESTINATION of spancast.destinations: ModuleNotFoundError" in caplog.text
