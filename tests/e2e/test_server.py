"""A web server with trace keys, looked at while it runs: in Jaeger, and in our own terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi
import openai
import pytest
from fastapi.testclient import TestClient
from tests.e2e.servers import Jaeger, poll, tree

import spancast
from spancast.cli import main
from spancast.model.span_ids import trace_id_of
from spancast.testing import ReplayServer

MESSAGES: Any = [{"role": "user", "content": "hi"}]
STEPS = (("triage", "classify"), ("answer", "draft"))
TREE = {"Support": {"triage": {"classify": {}}, "answer": {"draft": {}}}}


@pytest.fixture
def app(server: ReplayServer, jaeger: Jaeger, tmp_path: Path) -> Iterator[TestClient]:
    """Return a client of an application whose groups of keys would stay open for an hour."""
    spancast.configure(
        service_name="support-bot", group_idle_timeout=3600, spool={"path": tmp_path / "queue"},
        destinations={
            "jaeger": {"type": "jaeger", "endpoint": jaeger.otlp_http, "spans": "all"},
            "store": {"type": "store", "path": tmp_path / "spans.db", "spans": "all"},
        },
    )  # fmt: skip
    made = fastapi.FastAPI()
    sdk = spancast.instrument(openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0))

    @made.post("/block/{order}")
    async def block(order: str) -> None:
        with spancast.trace(trace_id=order, trace_name="Support", session_id="chat-42"):
            for step, name in STEPS:
                await sdk.chat.completions.create(  # type: ignore[call-overload]
                    model="m", messages=MESSAGES, trace={"span_name": step, "generation_name": name}
                )

    @made.post("/keys/{order}")
    async def keys(order: str) -> None:
        for step, name in STEPS:
            trace = {"trace_id": order, "trace_name": "Support", "span_name": step, "generation_name": name}
            await sdk.chat.completions.create(model="m", messages=MESSAGES, trace=trace)  # type: ignore[call-overload]

    with TestClient(made) as client:
        yield client
    spancast.shutdown()


def test_request_with_a_block_is_a_whole_tree_in_jaeger_at_once(app: TestClient, jaeger: Jaeger) -> None:
    assert app.post("/block/order-1").status_code == 200
    # Not flushed: the spans are sent as they are by a server that runs on.
    found = jaeger.trace(f"{trace_id_of('order-1'):032x}", spans=5)
    assert tree(found) == TREE
    assert all(not span.get("warnings") for span in found["spans"])


def test_request_with_keys_only_is_a_whole_tree_in_our_terminal_at_once(
    app: TestClient, jaeger: Jaeger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.post("/keys/order-2").status_code == 200
    trace_id = f"{trace_id_of('order-2'):032x}"

    def shown() -> str | None:
        is_there = main(["show", trace_id, "--store", str(tmp_path / "spans.db")]) == 0
        printed = capsys.readouterr().out
        return printed.split("\n\n")[1] if is_there and "draft" in printed else None

    drawn = [re.sub(r" +[0-9.]+ m?s .*| +(?=open)", " ", line) for line in poll(shown, "both calls").splitlines()]
    assert [line.rstrip() for line in drawn] == [
        "Support open",
        "├─ triage open",
        "│  └─ classify",
        "└─ answer open",
        "   └─ draft",
    ]

    # In Jaeger the groups come with their end.
    assert tree(jaeger.trace(trace_id, spans=2)) == {"classify": {}, "draft": {}}
    spancast.flush()
    found = jaeger.trace(trace_id, spans=5)
    assert tree(found) == TREE
    assert all(not span.get("warnings") for span in found["spans"])
