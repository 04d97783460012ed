"""Answers that break a product's contract, or HTTP's: each has a clear outcome, and nothing raises."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.destinations.configs import CANARY, REQUIRED
from tests.destinations.payloads import payload
from tests.destinations.spans import conversation

from spancast.destinations import partial_delivery
from spancast.destinations.protocol import Delivered, Failed, PartlyDelivered, Rejected, Retry
from spancast.destinations.registry import config_model, create


def answer(status: int, body: bytes | str = b"", *headers: str, content_type: str = "application/json") -> bytes:
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


def fields_of(body: Any) -> bytes:
    return answer(200, json.dumps(body))


ODD: dict[str, bytes] = {
    "null": answer(200, "null"),
    "list": answer(200, "[]"),
    "number": answer(200, "1e999"),
    "half of JSON": answer(200, '{"a":'),
    "deep JSON": answer(200, "[" * 100_000),
    "not UTF-8": answer(200, b'\xff\xfe{"a":1}'),
    "large": answer(200, b"x" * 3_000_000),
    "partialSuccess is text": fields_of({"partialSuccess": "all"}),
    "partialSuccess is a list": fields_of({"partialSuccess": [1]}),
    "rejectedSpans is text": fields_of({"partialSuccess": {"rejectedSpans": "many", "errorMessage": ["x"]}}),
    "rejectedSpans is negative": fields_of({"partialSuccess": {"rejectedSpans": -4}}),
    "half of a protobuf": answer(200, b"\x0a\x10\x08\x01", content_type="application/x-protobuf"),
    "insertErrors is an object": fields_of({"insertErrors": {"index": 0}}),
    "insertErrors of no row": fields_of({"insertErrors": [{"index": 99, "errors": [{"reason": "invalid"}]}, 7]}),
    "errors is text": fields_of({"errors": ["e"], "insertErrors": [{"index": "x", "errors": "y"}]}),
    "columns are texts": fields_of({"schema": {"fields": ["a", None]}}),
    "fewer records": fields_of({"FailedPutCount": 0, "RequestResponses": []}),
    "records are null": fields_of({"FailedPutCount": "2", "RequestResponses": [{"ErrorCode": 7}, None, {}]}),
    "statementHandle is a number": fields_of({"code": "000000", "statementHandle": 7, "message": [1]}),
    "statementHandle is a path": answer(202, '{"statementHandle":"../../x"}'),
    "202 without a handle": answer(202, "{}"),
    "not gzip": answer(200, b"\x1f\x8bgarbage", "Content-Encoding: gzip"),
    "length is a word": b"HTTP/1.1 200 OK\r\nContent-Length: banana\r\n\r\n",
    "length is negative": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    "status 99": b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n",
    "status is a word": b"HTTP/1.1 abc Denied\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9\r\n",
    "nothing": b"",
    "a header of 200 kB": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "304": answer(304),
    "400 with a list": answer(400, "[1]"),
    "400 with an odd error": answer(400, '{"error":{"errors":[{"reason":7}],"message":{"a":1}}}'),
    "400 with control characters": answer(400, "\x1b[31mred\r\nnew \x00 nul", content_type="text/plain"),
    "403 in XML": answer(403, "<Error><Code>Q</Code></Error>", content_type="application/xml"),
    "429 with a negative time": answer(429, "", "Retry-After: -7"),
    "429 with a huge time": answer(429, "", "Retry-After: 99999999999999999999"),
    "429 with a word": answer(429, "", "Retry-After: nan"),
    "500 with deep JSON": answer(500, '{"a":' * 50_000),
}
NEVER_TAKEN = [
    name for name in ODD if name[:1] in "3456789S" or name.startswith(("status", "101", "nothing", "a head"))
]

KINDS = {
    "otlp": "endpoint", "webhook": "url", "snowflake": "base_url", "bigquery": "base_url", "s3": "endpoint",
    "firehose": "endpoint", "posthog": "endpoint", "datadog": "url", "langfuse": "base_url", "braintrust": "base_url",
}  # fmt: skip


class Product(socketserver.ThreadingTCPServer):
    """Answers every request with the bytes ``reply``, then closes; a request for a token gets one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.reply = b""


class Handler(socketserver.StreamRequestHandler):
    server: Product
    timeout = 30

    def handle(self) -> None:
        try:
            lines = [line := self.rfile.readline()]
            while line.strip():
                lines.append(line := self.rfile.readline())
            headers = {name.strip().lower(): value.strip() for name, _, value in (one.partition(b":") for one in lines)}
            if headers.get(b"expect"):
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if headers.get(b"transfer-encoding") == b"chunked":
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    self.rfile.read(size + 2)
            else:
                self.rfile.read(int(headers.get(b"content-length", 0)))
            token = fields_of({"access_token": "t", "token_type": "Bearer", "expires_in": 3600})
            self.wfile.write(token if b" /token " in lines[0] else self.server.reply)
        except OSError:
            pass


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def words(outcome: Any) -> str:
    if isinstance(outcome, PartlyDelivered):
        return "".join([words(outcome.rest), *outcome.rejected.values()])
    return str(outcome.message if isinstance(outcome, Delivered) else outcome.reason)


@pytest.mark.parametrize("kind", KINDS)
def test_outcome_of_each_odd_answer(
    kind: str, product: Product, private_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3", reason="NO S3: boto3 is not installed")
    monkeypatch.setattr(partial_delivery, "_PAUSES_S", (0.0,))
    entry = {"type": kind, **REQUIRED[kind], "timeout": "5s", KINDS[kind]: product.url}
    if kind == "bigquery":
        account = {"type": "service_account", "client_email": "w@p.test", "token_uri": f"{product.url}/token"}
        entry["service_account_key"] = json.dumps({**account, "private_key": private_key})
    if kind in ("s3", "firehose"):
        entry["region"] = "us-east-1"
    # Datadog takes no span of yesterday.
    now = time.time_ns()
    batch = payload([replace(one, start_ns=now, end_ns=now + 1) for one in conversation()])
    to = create(config_model(kind).model_validate(entry), "one")
    outcomes = {}
    for name, product.reply in ODD.items():
        outcomes[name] = to.deliver(batch, 5)
        for outcome in (outcomes[name], to.test_connection(5)):
            assert isinstance(outcome, (Delivered, PartlyDelivered, Retry, Rejected, Failed)), name
            text = words(outcome)
            assert text.isprintable(), name
            assert CANARY not in text, name
    to.close()
    assert [name for name in NEVER_TAKEN if isinstance(outcomes[name], (Delivered, PartlyDelivered))] == []
    if kind == "firehose":
        taken = [name for name, outcome in outcomes.items() if isinstance(outcome, (Delivered, PartlyDelivered))]
        assert taken == [], "no answer has the ids of the records"
