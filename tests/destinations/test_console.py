from __future__ import annotations

import io
import sys

import pytest
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import TRACE_ID, conversation, span

from spancast.destinations.console import ConsoleConfig, ConsoleDestination
from spancast.destinations.protocol import Delivered, Retry
from spancast.encoding.tree_view import render_tree


def test_deliver_prints_a_tree_per_trace(capsys: pytest.CaptureFixture[str]) -> None:
    other = span("Other", 9, trace_id="0" * 31 + "1")
    to = ConsoleDestination(ConsoleConfig(type="console"), ENCODER)
    assert to.test_connection(1) == Delivered()
    assert to.deliver(payload([*conversation(), other]), 1) == Delivered()
    to.close()
    assert capsys.readouterr().err == (
        f"trace {TRACE_ID}: 2 calls, 100 → 50 tokens, $0.000750\n"
        f"{render_tree(conversation())}\n"
        f"trace {'0' * 31}1: 0 calls, 0 → 0 tokens\n"
        "Other  1.00 s\n"
    )


def test_deliver_with_stream_stdout_prints_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleDestination(ConsoleConfig(type="console", stream="stdout"), ENCODER).deliver(payload(conversation()[:1]), 1)
    assert capsys.readouterr().out.startswith(f"trace {TRACE_ID}: 1 call, ")


def test_deliver_to_ascii_terminal_replaces_characters() -> None:
    raw = io.BytesIO()
    to = ConsoleDestination(ConsoleConfig(type="console"), ENCODER, io.TextIOWrapper(raw, encoding="ascii"))
    assert to.deliver(payload(), 1) == Delivered()
    assert b"?? Extraction" in raw.getvalue()


def test_deliver_to_closed_stream_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    to = ConsoleDestination(ConsoleConfig(type="console"), ENCODER)
    assert to.deliver(payload(), 1) == Retry("stderr: ValueError")
