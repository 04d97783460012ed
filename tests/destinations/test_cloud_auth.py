"""Credentials of clouds, found by the clouds' own libraries, with token servers and receivers on real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.destinations.configs import config
from tests.destinations.otlp_receiver import OtlpReceiver, Request, ok, status
from tests.destinations.payloads import payload

from spancast.destinations import cloud_auth, registry
from spancast.destinations.protocol import Delivered, Retry


class TokenServer(BaseHTTPRequestHandler):
    """Answers each request with the next token."""

    tokens: list[str]

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        token = f"token-{len(self.tokens) + 1}"
        self.tokens.append(token)
        body = {"access_token": token, "token_type": "Bearer", "expires_in": 3600, "expires_on": "4102444800"}
        encoded = json.dumps({**body, "resource": "https://monitor.azure.com"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_POST = do_GET  # noqa: N815 - the names of http.server

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def tokens() -> Iterator[str]:
    TokenServer.tokens = []
    server = HTTPServer(("127.0.0.1", 0), TokenServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def google(tokens: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    account = {
        "type": "service_account", "project_id": "p", "private_key_id": "1", "token_uri": tokens,
        "client_email": "writer@p.iam.gserviceaccount.com",
        "private_key": key.private_bytes(encoding, form, serialization.NoEncryption()).decode(),
    }  # fmt: skip
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))


@pytest.fixture
def azure(tokens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The managed identity of an App Service.
    monkeypatch.setenv("IDENTITY_ENDPOINT", tokens)
    monkeypatch.setenv("IDENTITY_HEADER", "header")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


def destination(kind: str, url: str, **others: Any) -> Any:
    address = "endpoint" if kind == "otlp" else "base_url"
    return registry.create(config(kind, **{address: url, "timeout": 60, **others}), "one")


@pytest.mark.parametrize(("kind", "others"), [("google-cloud-trace", {}), ("otlp", {"auth": "google"})])
@pytest.mark.usefixtures("google")
def test_token_of_google_is_sent_and_renewed(kind: str, others: dict[str, Any], receiver: OtlpReceiver) -> None:
    receiver.answer_with(ok(), status(401), ok())
    to = destination(kind, receiver.url, **others)
    assert [to.deliver(payload(), 60), to.deliver(payload(), 60)] == [Delivered(), Delivered()]
    to.close()
    sent = [request.headers["authorization"] for request in receiver.requests]
    # The second token after the 401.
    assert sent == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


@pytest.mark.usefixtures("azure")
def test_token_of_azure_is_sent_to_the_rule(receiver: OtlpReceiver) -> None:
    to = destination("azure-monitor", receiver.url, rule_id="dcr-7")
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    [request] = receiver.requests
    assert request.headers["authorization"] == "Bearer token-1"
    assert request.path == "/dataCollectionRules/dcr-7/streams/Microsoft-OTLP-Traces/otlp/v1/traces"


def verify(request: Request, url: str, service: str, region: str) -> None:
    """Sign what arrived again, with the key: the signatures must be equal."""
    given = request.headers["authorization"]
    signed = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert f"AKIDEXAMPLE/{request.headers['x-amz-date'][:8]}/{region}/{service}/aws4_request" in given
    again = botocore.awsrequest.AWSRequest(
        "POST", url + request.path, data=request.body, headers={name: request.headers[name] for name in signed}
    )
    again.context["timestamp"] = request.headers["x-amz-date"]
    keys = botocore.credentials.Credentials("AKIDEXAMPLE", "canary-secret")
    signer = botocore.auth.SigV4Auth(keys, service, region)
    text = signer.string_to_sign(again, signer.canonical_request(again))
    assert given.endswith(f"Signature={signer.signature(text, again)}")


@pytest.mark.usefixtures("aws")
def test_request_to_aws_is_signed(receiver: OtlpReceiver) -> None:
    to = destination("otlp", receiver.url, auth="aws", compression="none")
    assert [to.deliver(payload(), 60), to.test_connection(60)] == [Delivered(), Delivered()]
    to.close()
    for request in receiver.requests:
        verify(request, receiver.url, "127", "eu-west-1")


@pytest.mark.usefixtures("aws")
def test_service_and_region_are_those_of_the_host() -> None:
    sign = cloud_auth.signer_of("aws", "https://xray.us-west-2.amazonaws.com/v1/traces")
    assert sign is not None
    headers = sign("POST", "https://xray.us-west-2.amazonaws.com/v1/traces", {"Content-Type": "x"}, b"body")
    assert "/us-west-2/xray/aws4_request" in headers["Authorization"]
    assert headers["Content-Type"] == "x"


@pytest.mark.usefixtures("aws")
def test_key_of_the_product_takes_precedence(receiver: OtlpReceiver) -> None:
    to = destination("xray", receiver.url, api_key="own")
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    assert receiver.requests[0].headers["authorization"] == "Bearer own"


def test_missing_credentials_are_retried_and_nothing_is_sent(
    receiver: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    to = destination("google-cloud-trace", receiver.url)
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, Retry)
    assert "headers_from or auth failed" in outcome.reason
    assert receiver.requests == []


def test_auth_over_grpc_raises() -> None:
    with pytest.raises(ValueError, match="needs OTLP over HTTP"):
        config("otlp", endpoint="http://h:4317", auth="google")
