"""The user's own endpoint over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from tests.destinations.configs import config
from tests.destinations.otlp_receiver import OtlpReceiver, html, redirect, status
from tests.destinations.payloads import VIEW, payload

from spancast.destinations import webhook
from spancast.destinations.protocol import Delivered, Rejected, Retry

CANARY = "sk-canary-0123456789"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with OtlpReceiver() as running:
        yield running


def destination(url: str, **others: Any) -> Any:
    told: Any = config("webhook", url=url, **others)
    return webhook.create(told, VIEW)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_batch_arrives_as_otlp_json(receiver: OtlpReceiver, method: str) -> None:
    made = destination(f"{receiver.url}/in?token={CANARY}", method=method, headers={"X-Key": CANARY})
    assert made.deliver(payload(), 30) == Delivered()
    made.close()
    [request] = receiver.requests
    assert (request.method, request.path) == (method, f"/in?token={CANARY}")
    assert request.body == payload().json
    assert not request.is_gzip
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-key"] == CANARY
    assert "x-test-connection" not in request.headers
    assert len(receiver.spans) == 4
    assert made.encoder is VIEW


@pytest.mark.parametrize("code", [200, 202, 204, 400])
def test_connection_test_passes(receiver: OtlpReceiver, code: int) -> None:
    receiver.answer_with(status(code, b"<html>" if code == 400 else b""))
    assert destination(receiver.url).test_connection(30) == Delivered()
    [request] = receiver.requests
    assert request.headers["x-test-connection"] == "true"
    assert request.headers["content-length"] == "0"
    assert request.body == b""


@pytest.mark.parametrize("reply", [status(404), status(422), redirect("/login"), html()])
def test_connection_test_fails(receiver: OtlpReceiver, reply: Any) -> None:
    receiver.answer_with(reply)
    assert isinstance(destination(receiver.url).test_connection(30), Rejected)


def test_failures_are_the_senders(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(400, f"bad {CANARY}".encode()), status(503))
    made = destination(f"{receiver.url}/in?token={CANARY}")
    assert made.deliver(payload(), 30) == Rejected(
        f"Webhook at 127.0.0.1:{receiver.port}/in: HTTP 400 (bad ***)", invalid_content=True
    )
    assert isinstance(made.test_connection(30), Retry)


def test_only_post_and_put() -> None:
    with pytest.raises(ValidationError, match="method"):
        destination("http://h.test", method="GET")
