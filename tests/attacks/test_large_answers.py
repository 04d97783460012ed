"""The promises that the call is unchanged and the answer recorded, attacked with very large answers and headers."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest
from tests.attacks import large

import spancast
from spancast.dialects.openai_chat.answers import chat_answer
from spancast.testing import CapturedSpans, ReplayServer, Reply


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell the largest memory")
def test_large_answer_arrives_and_takes_a_multiple_of_its_size(tmp_path: Path) -> None:
    size = 8 << 20
    bare = large.measure("whole", "bare", size, tmp_path)
    traced = large.measure("whole", "traced", size, tmp_path)
    assert traced.arrived
    # Beside the answer: the modules of export.
    assert traced.most_bytes - bare.most_bytes < (100 << 20) + 6 * size


@pytest.mark.parametrize("given", [{"x-big": "a" * 60_000}, {f"x-{number}": "v" * 500 for number in range(60)}])
def test_large_headers_change_nothing(given: dict[str, str], server: ReplayServer, spans: CapturedSpans) -> None:
    plain = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    traced = spancast.instrument(plain.copy())
    body = json.dumps(chat_answer("Hello there")).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    # Both clients share the connections, and the server closes each after a raw reply.
    head += f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
    raw = f"HTTP/1.1 200 OK\r\n{head}\r\n".encode()
    server.reply(Reply.raw(raw + body), Reply.raw(raw + body))
    first, second = (
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], extra_headers=given)
        for client in (plain, traced)
    )
    assert first == second
    assert server.requests[0].raw == server.requests[1].raw
    found = spans.one().attributes or {}
    assert "Hello there" in str(found["gen_ai.output.messages"])
    assert sum(len(str(value)) for value in found.values()) < 2_000
