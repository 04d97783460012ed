"""Tests of ``HttpSender`` over a real socket: requests, outcomes, TLS, proxies and hidden credentials."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.configs import config
from tests.destinations.otlp_receiver import (
    Certificate,
    OtlpReceiver,
    Reply,
    Request,
    certificate,
    cut,
    deaf,
    drip,
    hold,
    html,
    ok,
    redirect,
    status,
)
from tests.destinations.payloads import payload

from spancast.destinations.http import (
    MAX_RESPONSE_BYTES,
    MAX_TEXT_LENGTH,
    Credentials,
    HttpResult,
    HttpSender,
    Tls,
    proxy_for,
    retry_after_s,
    sender_of,
)
from spancast.destinations.protocol import Delivered, Rejected, Retry
from spancast.diagnostics import reraise_internal_errors
from spancast.errors import ConfigError
from spancast.testing import CapturedSpans

CANARY = "sk-canary-0123456789"
JSON = "application/json"
NOW = 1_790_683_200.0
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture(autouse=True)
def without_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextlib.contextmanager
def open_sender(to: OtlpReceiver | str, **others: Any) -> Iterator[HttpSender]:
    url = to if isinstance(to, str) else f"{to.url}/v1/traces"
    sender = HttpSender(url, **{"product": "Product", "timeout": 30.0, "now": lambda: NOW, **others})
    yield sender
    sender.close()


def send(sender: HttpSender, timeout_s: float = 30.0, body: bytes = b"") -> HttpResult:
    return sender.send(body, JSON, gzip=False, timeout_s=timeout_s)


# Requests.


def test_send_compressed_batch_arrives_with_headers(receiver: OtlpReceiver) -> None:
    batch = payload()
    with open_sender(receiver, headers={"X-Team": "客服", "content-type": "text/plain"}) as sender:
        answer = sender.send(batch.body("json", gzip=True), JSON, gzip=True, timeout_s=30, headers={"X-More": "1"})
    [request] = receiver.requests
    assert answer.outcome == Delivered()
    assert answer.status == 200
    assert request.is_gzip
    assert request.body == batch.json
    assert request.path == "/v1/traces"
    assert request.headers["content-type"] == JSON
    assert request.headers["x-more"] == "1"
    assert request.headers["x-team"].encode("latin-1").decode() == "客服"
    assert request.headers["user-agent"].startswith("spancast/")


def test_send_without_compression_has_no_content_encoding(receiver: OtlpReceiver) -> None:
    with open_sender(receiver, method="PUT") as sender:
        send(sender, body=payload().json)
    [request] = receiver.requests
    assert "content-encoding" not in request.headers
    assert request.method == "PUT"


def test_send_several_batches_uses_one_connection(receiver: OtlpReceiver) -> None:
    receiver.answer_with(ok(), status(503, b"busy"), status(400, b"x" * 1000), ok())
    with open_sender(receiver) as sender:
        for _ in range(4):
            send(sender)
    assert len({request.connection for request in receiver.requests}) == 1


def test_send_after_close_opens_a_new_connection(receiver: OtlpReceiver) -> None:
    with open_sender(receiver) as sender:
        assert send(sender).outcome == Delivered()
        sender.close()
        assert send(sender).outcome == Delivered()
    assert len({request.connection for request in receiver.requests}) == 2


def test_send_with_changed_headers_sends_the_current_values(receiver: OtlpReceiver) -> None:
    own = {"X-Own": "one"}
    with open_sender(receiver) as sender:
        for value in ("one", "two", "two"):
            own["X-Own"] = value
            sender.send(b"", "text/plain", gzip=value == "two", timeout_s=30, headers=own)
    received = [(request.headers["x-own"], request.headers.get("content-encoding")) for request in receiver.requests]
    assert received == [("one", None), ("two", "gzip"), ("two", "gzip")]


def test_send_with_oversized_response_closes_only_its_connection(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(200, b"x" * (2 * MAX_RESPONSE_BYTES)), ok())
    with open_sender(receiver) as sender:
        answer = send(sender)
        assert answer.outcome == Delivered()
        assert len(answer.body) == MAX_RESPONSE_BYTES
        assert send(sender).outcome == Delivered()
    assert len({request.connection for request in receiver.requests}) == 2


def test_send_from_many_threads_delivers_all(receiver: OtlpReceiver) -> None:
    outcomes: list[object] = []
    with open_sender(receiver) as sender:
        threads = [threading.Thread(target=lambda: outcomes.append(send(sender).outcome)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes == [Delivered()] * 16


# Outcomes.


@pytest.mark.parametrize("code", [200, 201, 202, 204])
def test_send_with_2xx_is_delivered(receiver: OtlpReceiver, code: int) -> None:
    receiver.answer_with(status(code))
    with open_sender(receiver) as sender:
        assert send(sender).outcome == Delivered()


@pytest.mark.parametrize("code", [401, 403, 407, 408, 425, 429, 500, 502, 503, 504, 520, 599])
def test_send_with_transient_status_is_retried(receiver: OtlpReceiver, code: int) -> None:
    receiver.answer_with(status(code, b"try\n later", {"Retry-After": "7"}))
    with open_sender(receiver) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 7.0
    assert outcome.reason.startswith(f"Product at 127.0.0.1:{receiver.port}/v1/traces: HTTP {code}")
    assert outcome.reason.endswith("(try later)")
    assert ("invalid credentials" in outcome.reason) == (code in {401, 403, 407})


@pytest.mark.parametrize("code", [400, 402, 404, 405, 406, 409, 410, 413, 415, 422, 451, 501, 505])
def test_send_with_permanent_status_is_rejected(receiver: OtlpReceiver, code: int) -> None:
    receiver.answer_with(status(code, b"no"))
    with open_sender(receiver) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Rejected)
    assert outcome.too_large == (code == 413)
    assert outcome.invalid_content == (code in {400, 422})
    assert f"HTTP {code}" in outcome.reason
    assert ("no endpoint for spans at this URL" in outcome.reason) == (code in {404, 405})


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308])
def test_send_with_redirect_is_rejected_with_its_location(receiver: OtlpReceiver, code: int) -> None:
    receiver.answer_with(redirect(f"https://user:{CANARY}@login.test:8443/sso?next={CANARY}#{CANARY}", code), ok())
    with open_sender(receiver) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Rejected)
    assert "login.test:8443/sso is not followed" in outcome.reason
    assert CANARY not in outcome.reason
    assert len(receiver.requests) == 1


def test_send_with_relative_redirect_reports_the_host(receiver: OtlpReceiver) -> None:
    receiver.answer_with(redirect("/login?a=b"))
    with open_sender(receiver) as sender:
        assert f"127.0.0.1:{receiver.port}/login is not followed" in str(send(sender).outcome)


@pytest.mark.parametrize("to", ["http://[::1", "http://[x]/", "//[", "http://host:port/"])
def test_send_with_redirect_to_no_url_is_rejected(to: str, receiver: OtlpReceiver) -> None:
    receiver.answer_with(redirect(to))
    with open_sender(receiver) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Rejected)
    assert "is not followed; configure that URL" in outcome.reason


@pytest.mark.parametrize("size", ["-5", "zz", "", "f" * 30])
def test_send_with_wrong_chunk_size_is_retried(size: str) -> None:
    answer = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        with open_sender(f"http://127.0.0.1:{listening.getsockname()[1]}/") as sender:
            outcome = send(sender).outcome
        thread.join()
    assert isinstance(outcome, Retry)
    assert "the response was interrupted" in outcome.reason


def test_send_with_html_page_and_200_is_rejected(receiver: OtlpReceiver) -> None:
    receiver.answer_with(html())
    with open_sender(receiver) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Rejected)
    assert "HTML page" in outcome.reason
    assert "/v1/traces" in outcome.reason


def test_send_with_html_page_and_503_does_not_quote_it(receiver: OtlpReceiver) -> None:
    receiver.answer_with(html(503))
    with open_sender(receiver) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Retry)
    assert outcome.reason.endswith("HTTP 503 (an HTML page)")


def test_send_with_html_page_and_400_is_not_invalid_content(receiver: OtlpReceiver) -> None:
    receiver.answer_with(html(400))
    with open_sender(receiver) as sender:
        assert send(sender).outcome == Rejected(
            f"Product at 127.0.0.1:{receiver.port}/v1/traces: HTTP 400 (an HTML page)"
        )


def test_send_with_short_text_of_html_type_is_delivered(receiver: OtlpReceiver) -> None:
    """Many frameworks set the type text/html by default."""
    receiver.answer_with(status(200, b"ok", {"Content-Type": "text/html"}))
    with open_sender(receiver) as sender:
        assert send(sender).outcome == Delivered()


def test_send_with_long_error_body_truncates_the_reason(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(400, b"y" * 5000))
    with open_sender(receiver) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Rejected)
    assert outcome.reason.count("y") == MAX_TEXT_LENGTH - 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("2", 2.0),
        (" 1.5 ", 1.5),
        ("-5", None),
        ("9" * 400, 3600.0),
        ("soon", None),
        ("", None),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        (formatdate(NOW + 90_000, usegmt=True), 3600.0),
        (formatdate(NOW + 90), 90.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_s_parses_seconds_and_dates(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


def test_send_with_retry_after_date_returns_its_delay(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(503, headers={"Retry-After": formatdate(NOW + 30, usegmt=True)}))
    with open_sender(receiver) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 30.0


# Failing connections.


def test_send_to_closed_port_is_retried() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with open_sender(f"http://127.0.0.1:{bound.getsockname()[1]}/v1/traces?token={CANARY}") as sender:
            outcome = send(sender).outcome
    assert isinstance(outcome, Retry)
    assert outcome.reason.endswith("Connection refused")
    assert CANARY not in outcome.reason


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".test"])
def test_send_to_unknown_host_is_retried(host: str) -> None:
    with open_sender(f"http://{host}/v1/traces") as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Retry)
    assert host in outcome.reason


def test_send_with_closed_connection_is_retried_on_a_new_one(receiver: OtlpReceiver) -> None:
    receiver.answer_with(cut(), ok())
    with open_sender(receiver) as sender:
        outcome = send(sender).outcome
        assert send(sender).outcome == Delivered()
    assert isinstance(outcome, Retry)
    assert outcome.reason.endswith("Remote end closed connection without response")


def test_send_with_truncated_response_is_retried(receiver: OtlpReceiver) -> None:
    # Two lengths: the handler adds the true one, the client uses the first.
    receiver.answer_with(status(200, b"{}", {"Content-Length": "10", "Connection": "close"}))
    with open_sender(receiver) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Retry)


@pytest.mark.parametrize("reply", [hold(), drip(), drip(head=True), deaf()], ids=["silent", "body", "head", "deaf"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
def test_send_with_server_that_never_finishes_times_out(tmp_path: Path, reply: Reply, is_secure: bool) -> None:
    """The server never stops, so the test passes only if the timeout covers the complete exchange."""
    identity = certificate(tmp_path) if is_secure else None
    with OtlpReceiver(tls=identity) as receiver:
        receiver.answer_with(reply, ok())
        with open_sender(receiver, tls=Tls(ca_file=identity and identity.cert)) as sender:
            large = payload().json if reply.fault != "deaf" else b" " * 50_000_000
            outcome = send(sender, 0.3, large).outcome
            assert isinstance(outcome, Retry)
            assert outcome.reason.endswith("no response in time")
            if reply.fault.startswith("drip"):
                assert receiver.wait_for(lambda: receiver.hang_ups == 1)
            receiver.release()
            assert send(sender).outcome == Delivered()


def test_send_uses_the_shorter_of_two_timeouts(receiver: OtlpReceiver) -> None:
    receiver.answer_with(drip())
    with open_sender(receiver, timeout=0.2) as sender:
        assert isinstance(send(sender, 600).outcome, Retry)


def test_send_without_tls_handshake_times_out() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with open_sender(f"https://127.0.0.1:{silent.getsockname()[1]}") as sender:
            assert str(send(sender, 0.2).outcome).count("no response in time") == 1


# Certificates.


@pytest.fixture
def identity(tmp_path: Path) -> Certificate:
    return certificate(tmp_path)


def test_send_with_unknown_certificate_is_retried_with_the_reason(identity: Certificate) -> None:
    with OtlpReceiver(tls=identity) as receiver, open_sender(receiver) as sender:
        outcome = send(sender).outcome
        assert isinstance(outcome, Retry)
        assert "TLS: self-signed certificate" in outcome.reason
        assert receiver.requests == []


def test_send_with_certificate_of_another_host_is_retried(tmp_path: Path) -> None:
    other = certificate(tmp_path, "other.test")
    with OtlpReceiver(tls=other) as receiver, open_sender(receiver, tls=Tls(ca_file=other.cert)) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Retry)
    assert "certificate is not valid for '127.0.0.1'" in outcome.reason


@pytest.mark.parametrize("trusted", [True, False])
def test_send_with_own_ca_or_without_verification_is_delivered(identity: Certificate, trusted: bool) -> None:
    tls = Tls(ca_file=identity.cert) if trusted else Tls(verify=False)
    with OtlpReceiver(tls=identity) as receiver, open_sender(receiver, tls=tls) as sender:
        assert [send(sender).outcome, send(sender).outcome] == [Delivered(), Delivered()]
        assert len({request.connection for request in receiver.requests}) == 1


def test_send_with_client_certificate_is_delivered(identity: Certificate, tmp_path: Path) -> None:
    client = certificate(tmp_path / "client", "client.test")
    with OtlpReceiver(tls=identity, client_ca=client.cert) as receiver:
        with open_sender(receiver, tls=Tls(ca_file=identity.cert)) as sender:
            assert isinstance(send(sender).outcome, Retry)
        with open_sender(
            receiver, tls=Tls(ca_file=identity.cert, cert_file=client.cert, key_file=client.key)
        ) as sender:
            assert send(sender).outcome == Delivered()


def test_sender_with_invalid_certificate_file_raises_config_error(tmp_path: Path, identity: Certificate) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"ca_file: .*wrong\.pem"):
        HttpSender("https://h.test", product="P", tls=Tls(ca_file=wrong))
    with pytest.raises(ConfigError, match=r"cert_file: .*wrong\.pem"):
        HttpSender("https://h.test", product="P", tls=Tls(cert_file=wrong))
    with pytest.raises(ConfigError, match=r"cert_file: .*127\.0\.0\.1\.pem"):
        HttpSender("https://h.test", product="P", tls=Tls(cert_file=identity.cert, key_file=wrong))


# Proxies.


def test_send_through_configured_proxy_sends_its_password(receiver: OtlpReceiver) -> None:
    proxy = receiver.url.replace("://", f"://user:{CANARY}@")
    with open_sender("http://far.test/v1/traces?a=b", proxy=proxy) as sender:
        assert send(sender).outcome == Delivered()
    [request] = receiver.requests
    assert request.path == "http://far.test/v1/traces?a=b"
    assert request.headers["host"] == "far.test"
    assert request.headers["proxy-authorization"].startswith("Basic ")


def test_send_https_through_proxy_uses_connect(receiver: OtlpReceiver) -> None:
    with open_sender("https://far.test/v1/traces", proxy=receiver.url, headers={"Authorization": CANARY}) as sender:
        outcome = send(sender).outcome
    assert isinstance(outcome, Retry)
    assert "502" in outcome.reason
    [request] = receiver.requests
    assert (request.method, request.path) == ("CONNECT", "far.test:443")
    assert CANARY not in str(request)


def test_proxy_for_reads_the_environment(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url)
    with open_sender("http://far.test/v1/traces") as sender:
        assert send(sender).outcome == Delivered()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,near.test")
    monkeypatch.setenv("HTTPS_PROXY", "proxy.test:3128")
    assert proxy_for("http://near.test/") is None
    assert proxy_for("http://near.test:4318/") is None
    assert proxy_for("http://far.test/") == receiver.url
    assert proxy_for("https://far.test/") == "http://proxy.test:3128"
    assert proxy_for("https://near.test/", "http://own.test") == "http://own.test"
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://user:{CANARY}@proxy.test")
    with pytest.raises(ConfigError, match=r"must start with http:// or https://") as raised:
        proxy_for("https://far.test/")
    assert CANARY not in str(raised.value)


# Credentials.


def test_send_with_user_in_url_uses_basic_authentication(receiver: OtlpReceiver) -> None:
    with open_sender(receiver.url.replace("://", "://me:p%40ss@") + "/in?x=1#part") as sender:
        send(sender)
    [request] = receiver.requests
    assert request.headers["authorization"] == "Basic bWU6cEBzcw=="
    assert request.path == "/in?x=1"


def test_headers_from_is_called_again_after_401(receiver: OtlpReceiver) -> None:
    keys = iter(["old", "new"])

    def by_key(request: Request) -> Reply:
        return ok() if request.headers["x-key"] == "new" else status(401)

    receiver.answer_with(ok(), ok(), by_key)
    with open_sender(receiver, headers={"X-KEY": "fixed"}, headers_from=lambda: {"x-key": next(keys)}) as sender:
        assert [send(sender).outcome for _ in range(3)] == [Delivered()] * 3
    assert [request.headers["x-key"] for request in receiver.requests] == ["old", "old", "old", "new"]


def test_headers_from_is_called_at_most_twice_per_batch(receiver: OtlpReceiver) -> None:
    keys = iter(range(100))
    receiver.answer_with(status(401))
    with open_sender(receiver, headers_from=lambda: {"x-key": str(next(keys))}) as sender:
        assert isinstance(send(sender).outcome, Retry)
    assert [request.headers["x-key"] for request in receiver.requests] == ["0", "1"]


def test_headers_from_with_unchanged_headers_sends_once(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(401))
    with open_sender(receiver, headers_from=lambda: {"x-key": "same"}) as sender:
        assert isinstance(send(sender).outcome, Retry)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "headers_from", [lambda: 1 / 0, lambda: None, lambda: {"x-key": f"{CANARY}\r\nx: y"}, lambda: {"x key": CANARY}]
)
def test_headers_from_failure_is_retried_without_request(
    receiver: OtlpReceiver, headers_from: Any, caplog: pytest.LogCaptureFixture
) -> None:
    former = reraise_internal_errors(enabled=False)
    try:
        with open_sender(receiver, headers_from=headers_from) as sender:
            outcome = send(sender).outcome
    finally:
        reraise_internal_errors(enabled=former)
    assert isinstance(outcome, Retry)
    assert "headers_from failed" in outcome.reason
    assert receiver.requests == []
    assert CANARY not in caplog.text


@pytest.mark.parametrize("code", [200, 302, 400, 401, 413, 503])
def test_send_hides_credentials_in_outcome_repr_and_log(
    receiver: OtlpReceiver, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The server quotes the complete request in its reply."""
    caplog.set_level(logging.DEBUG)
    password, query, rotated = f"pass/{CANARY}", f"query {CANARY}", f"rotated-{CANARY}"
    url = receiver.url.replace("://", "://canary-user:pass%2F" + CANARY + "@") + f"/v1/traces?key=query+{CANARY}"

    def echo(request: Request) -> Reply:
        quoted = f"{request.headers} {request.path} {password} {query} canary-user {CANARY} {rotated}"
        return status(code, quoted.encode(), {"Location": f"/{CANARY}/{rotated}"})

    receiver.answer_with(echo)
    with open_sender(
        url, headers={"X-Api-Key": f"Bearer {CANARY}"}, headers_from=lambda: {"X-Other": rotated}
    ) as sender:
        answer = send(sender)
        shown = f"{answer.outcome} {answer!r} {sender!r} {caplog.text}"
    assert len(receiver.requests) == 1
    assert "canary" not in shown.lower()
    assert "***" in shown or code == 200


def test_credentials_shown_hides_passwords_of_basic_authentication() -> None:
    credentials = Credentials("http://h", {"Authorization": "Basic dXNlcjpzM2NyM3QtcGFzcw==", "X-Bad": "Basic !"})
    assert credentials.redact("user:s3cr3t-pass or s3cr3t-pass or dXNlcjpzM2NyM3QtcGFzcw==") == "*** or *** or ***"
    assert "s3cr3t" not in repr(credentials)
    assert Credentials("http://h", {}).redact("a\x00b\n\x1b[31m c") == "a b [31m c"


def test_sender_of_uses_the_destination_config(receiver: OtlpReceiver) -> None:
    chosen: Any = config(
        "webhook", url=receiver.url, headers={"x-key": CANARY, "X-Own": "1"}, timeout="9s", headers_from=dict
    )
    sender = sender_of(chosen, receiver.url, product="Webhook", headers={"X-Key": "vendor", "X-Kept": "2"})
    assert send(sender).outcome == Delivered()
    sender.close()
    [request] = receiver.requests
    assert {name: request.headers.get(name) for name in ("x-key", "x-own", "x-kept")} == {
        "x-key": CANARY,
        "x-own": "1",
        "x-kept": "2",
    }


# Other instrumentations and forks.


def test_send_is_not_traced_by_other_instrumentations(receiver: OtlpReceiver, spans: CapturedSpans) -> None:
    import urllib3
    from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor

    URLLib3Instrumentor().instrument(tracer_provider=spans.provider)
    try:
        with open_sender(receiver) as sender:
            assert send(sender).outcome == Delivered()
        with urllib3.PoolManager() as user_pool:
            user_pool.request("POST", receiver.url)
    finally:
        URLLib3Instrumentor().uninstrument()
    # The user's request is traced; the sender's request is not, and propagates no context.
    assert spans.names() == ["POST"]
    ours, other = receiver.requests
    assert "traceparent" not in ours.headers
    assert "traceparent" in other.headers


def test_send_in_forked_child_opens_its_own_connection(receiver: OtlpReceiver) -> None:
    with open_sender(receiver) as sender:
        send(sender)
        child = os.fork()
        if child == 0:
            try:
                outcome = send(sender).outcome
                sender.close()
                os._exit(0 if outcome == Delivered() else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        send(sender)
    before, in_child, after = (request.connection for request in receiver.requests)
    assert before == after
    assert in_child != before


def test_close_in_forked_child_keeps_the_parents_connection(receiver: OtlpReceiver) -> None:
    with open_sender(receiver) as sender:
        send(sender)
        child = os.fork()
        if child == 0:
            try:
                sender.close()
                os._exit(0)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        send(sender)
    assert len({request.connection for request in receiver.requests}) == 1


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("127.0.0.0/8", "http://127.0.0.1:4318/", True),
        ("10.0.0.0/8, 192.168.0.0/16", "http://192.168.3.4/", True),
        ("10.0.0.0/8", "http://11.0.0.1/", False),
        ("10.0.0.0/8", "http://ten.test/", False),
        ("2001:db8::/32", "http://[2001:db8::5]/", True),
        ("[::1]", "http://[::1]:4318/", True),
        ("*.near.test", "http://a.near.test/", True),
        ("*.near.test", "http://far.test/", False),
        ("10.0.0.0/99,near.test", "http://near.test/", True),
        ("*", "http://far.test/", True),
    ],
)
def test_proxy_for_reads_networks_and_wildcards(
    no_proxy: str, url: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(url) is None) is is_direct
