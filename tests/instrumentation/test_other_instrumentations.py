"""Other instrumentations together with ours: a call has one span."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import ReplayServer, Reply

Spans = list[tuple[str, dict[str, Any]]]

HERE = Path(__file__).parent
# Programs are run by path: a dependency of weave installs a package named tests.
sys.path.insert(0, str(HERE))
from peer_libraries import ROWS, Row  # noqa: E402
from peers_anthropic_program import LIBRARIES  # noqa: E402
from peers_program import PEERS  # noqa: E402

sys.path.remove(str(HERE))


def output_of(program: str, *arguments: str) -> Any:
    command = [sys.executable, "-W", "ignore", str(HERE / program), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    # Some of these libraries print lines of their own.
    return json.loads(next(line for line in ended.stdout.splitlines() if line.startswith(("{", "["))))


@functools.cache
def spans_of(peer: str) -> dict[str, Spans]:
    with ReplayServer() as server:
        return output_of("peers_program.py", peer, server.base_url)


def need(module: str) -> None:
    """Skip the test if the library is not installed; fail if ``make peers`` should have installed it."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        assert "SPANCAST_REQUIRE_PEERS" not in os.environ, f"{module} is not installed"
        pytest.skip(f"{module} is not installed; `make peers` installs it")


@pytest.mark.parametrize("case", ["whole", "streamed"])
@pytest.mark.parametrize("peer", PEERS)
def test_peer_outside_keeps_its_span_and_gets_our_keys(peer: str, case: str) -> None:
    [(scope, attributes)] = spans_of(peer)[case]
    assert scope != "spancast"
    assert attributes.items() >= {"session.id": "chat-42", "trace.metadata.tier": 2}.items()


@pytest.mark.parametrize("peer", PEERS)
def test_peer_inside_a_decorated_call_is_suppressed(peer: str) -> None:
    scopes = [scope for scope, _ in spans_of(peer)["decorated"]]
    if peer == "openinference":
        # It respects only the key that suppresses HTTP instrumentations too, which users want to keep.
        assert scopes.count("spancast") == 1
    else:
        assert scopes == ["spancast"]


@pytest.mark.parametrize("library", ["logfire", "ddtrace"])
def test_global_provider_of_a_library_gets_one_span_per_call(
    library: str, server: ReplayServer, tmp_path: Path
) -> None:
    """Logfire's provider is not hashable and its spans wrap the SDK's; ddtrace's provider accepts no processor."""
    need(library)
    server.reply(Reply.json(chat_answer("whole")), Reply.stream(chat_chunks(chat_answer("streamed"))), Reply.error(400))
    found = output_of("global_provider_program.py", library, server.base_url, str(tmp_path / "spans.jsonl"))
    assert found["answers"] == ["whole", "streamed", "BadRequestError"]
    assert not found["counts"]["internal_errors"]
    assert found["counts"]["spans_started"] == 3
    if library == "logfire":
        assert found["theirs"] == ["chat m", "chat m", "chat refused"]
        assert found["counts"]["destinations"]["file"]["delivered"] == 3


@pytest.mark.parametrize("order", ["peer first", "ours first"])
@pytest.mark.parametrize("ours", ["class", "client"])
@pytest.mark.parametrize("peer", ROWS)
def test_peer_and_spancast_in_both_orders_record_each_call(
    peer: str, ours: str, order: str, server: ReplayServer
) -> None:
    """The responses are the SDK's, both record each call, and a removed wrapper has no effect."""
    row = ROWS[peer]
    need(row.module)
    if row.wraps == "own" and (ours, order) == ("client", "ours first"):
        pytest.skip("it makes its clients itself")
    for off, found in output_of("peers_orders_program.py", peer, ours, order, server.base_url).items():
        changed = found.pop("changed")
        # ``instrument()`` does not affect wrappers that another library has set on a client object before: its
        # methods accept no keys, and its uninstrumentation may restore the SDK's own method.
        is_beyond_reach = (row.wraps, ours, order) == ("client", "class", "peer first")
        if is_beyond_reach or (row.checks_arguments and order == "ours first"):
            del found["keys"]
        for step, calls in found.items():
            for way, (is_same, own, theirs, sessions) in calls.items():
                where = (off, step, way, is_same, own, theirs, sessions)
                assert is_same is True, where
                assert own in _expected_of_ours(row, step, is_beyond_reach=is_beyond_reach), where
                assert theirs in _expected_of_peer(row, step, way), where
                if row.module == "logfire" and step in ("both", "keys"):
                    assert own + theirs == 1, where
                if step == "keys":
                    assert sessions == ["s-1"] * own, where
        if off == "last" and not row.stays and row.wraps == "class" and "first" in found:
            assert changed == []


def _expected_of_ours(row: Row, step: str, *, is_beyond_reach: bool) -> set[int]:
    if step in ("without ours", "neither"):
        return {0}
    if step == "without peer":
        # The method that it restored may be without our wrapper.
        return {0, 1}
    if step == "ours again" and not (row.stays or is_beyond_reach):
        return {1}
    return {0, 1} if row.is_otel else {1}


def _expected_of_peer(row: Row, step: str, way: str) -> set[int]:
    if any(name in way for name in row.not_recorded):
        return {0}
    # Outside ours, logfire has the span; inside, it is suppressed.
    is_either = step in ("without peer", "ours again", "neither") or (
        row.module == "logfire" and step != "without ours"
    )
    return {0, 1} if is_either else {1}


@pytest.mark.parametrize("order", ["peer first", "ours first"])
@pytest.mark.parametrize("ours", ["class", "client"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_peer_of_anthropic_and_spancast_in_both_orders_record_each_call(
    library: str, ours: str, order: str, server: ReplayServer
) -> None:
    need(LIBRARIES[library][0])
    if library == "posthog" and (ours, order) == ("client", "ours first"):
        pytest.skip("it makes its clients itself")
    found = output_of("peers_anthropic_program.py", library, ours, order, server.base_url.removesuffix("/v1"))
    assert found == [[True, 1]] * 6


LITELLM = """
import asyncio, json, os, sys
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import spancast
from spancast.testing import captured_spans
seen = []
with captured_spans() as spans:
    if sys.argv[1] == "ours first":
        spancast.instrument()
    import litellm
    litellm.success_callback = [lambda *given: seen.append(given)]
    if sys.argv[1] == "peer first":
        spancast.instrument()
    request = {"model": "openai/m", "messages": [{"role": "user", "content": "hi"}], "api_base": sys.argv[2], "api_key": "k"}
    texts = [litellm.completion(**request).choices[0].message.content]
    texts.append("".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**request, stream=True)))
    async def main():
        texts.append((await litellm.acompletion(**request)).choices[0].message.content)
        stream = await litellm.acompletion(**request, stream=True)
        texts.append("".join([chunk.choices[0].delta.content or "" async for chunk in stream]))
    asyncio.run(main())
    print(json.dumps([texts, [span.instrumentation_scope.name for span in spans.all()]]))
"""


@pytest.mark.parametrize("order", ["peer first", "ours first"])
def test_litellm_with_an_instrumented_sdk_has_one_span_per_call(order: str, server: ReplayServer) -> None:
    need("litellm")
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LITELLM, order, server.base_url],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    texts, scopes = json.loads(ended.stdout.splitlines()[-1])
    assert len(set(texts)) == 1
    assert texts[0]
    assert scopes == ["spancast"] * 4
