"""Tests of the webhook destination over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from tests.destinations.configs import config
from tests.destinations.otlp_receiver import OtlpReceiver, html, redirect, status
from tests.destinations.payloads import ENCODER, payload

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
    chosen: Any = config("webhook", url=url, **others)
    return webhook.create(chosen, ENCODER)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_deliver_sends_otlp_json(receiver: OtlpReceiver, method: str) -> None:
    target = destination(f"{receiver.url}/in?token={CANARY}", method=method, headers={"X-Key": CANARY})
    assert target.deliver(payload(), 30) == Delivered()
    target.close()
    [request] = receiver.requests
    assert (request.method, request.path) == (method, f"/in?token={CANARY}")
    assert request.body == payload().json
    assert not request.is_gzip
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-key"] == CANARY
    assert "x-test-connection" not in request.headers
    assert len(receiver.spans) == 4
    assert target.encoder is ENCODER


@pytest.mark.parametrize("code", [200, 202, 204, 400])
def test_connection_test_with_accepted_status_is_delivered(receiver: OtlpReceiver, code: int) -> None:
    receiver.answer_with(status(code, b"<html>" if code == 400 else b""))
    assert destination(receiver.url).test_connection(30) == Delivered()
    [request] = receiver.requests
    assert request.headers["x-test-connection"] == "true"
    assert request.headers["content-length"] == "0"
    assert request.body == b""


@pytest.mark.parametrize("reply", [status(404), status(422), redirect("/login"), html()])
def test_connection_test_with_other_reply_is_rejected(receiver: OtlpReceiver, reply: Any) -> None:
    receiver.answer_with(reply)
    assert isinstance(destination(receiver.url).test_connection(30), Rejected)


def test_deliver_with_400_is_rejected_without_credentials(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(400, f"bad {CANARY}".encode()), status(503))
    target = destination(f"{receiver.url}/in?token={CANARY}")
    assert target.deliver(payload(), 30) == Rejected(
        f"Webhook at 127.0.0.1:{receiver.port}/in: HTTP 400 (bad ***)", invalid_content=True
    )
    assert isinstance(target.test_connection(30), Retry)


def test_config_with_method_get_raises() -> None:
    with pytest.raises(ValidationError, match="method"):
        destination("http://h.test", method="GET")
