"""One request per batch over a real socket: what each answer comes to, and what never shows."""

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
def no_proxy_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextlib.contextmanager
def sender(to: OtlpReceiver | str, **others: Any) -> Iterator[HttpSender]:
    url = to if isinstance(to, str) else f"{to.url}/v1/traces"
    made = HttpSender(url, **{"product": "Product", "timeout": 30.0, "now": lambda: NOW, **others})
    yield made
    made.close()


def sent(made: HttpSender, timeout_s: float = 30.0, body: bytes = b"") -> HttpResult:
    return made.send(body, JSON, gzip=False, timeout_s=timeout_s)


# What leaves.


def test_a_compressed_batch_arrives_whole(receiver: OtlpReceiver) -> None:
    batch = payload()
    with sender(receiver, headers={"X-Team": "客服", "content-type": "text/plain"}) as made:
        answer = made.send(batch.body("json", gzip=True), JSON, gzip=True, timeout_s=30, headers={"X-More": "1"})
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


def test_without_compression_nothing_says_gzip(receiver: OtlpReceiver) -> None:
    with sender(receiver, method="PUT") as made:
        sent(made, body=payload().json)
    [request] = receiver.requests
    assert "content-encoding" not in request.headers
    assert request.method == "PUT"


def test_one_connection_serves_many_batches(receiver: OtlpReceiver) -> None:
    receiver.answer_with(ok(), status(503, b"busy"), status(400, b"x" * 1000), ok())
    with sender(receiver) as made:
        for _ in range(4):
            sent(made)
    assert len({request.connection for request in receiver.requests}) == 1


def test_what_is_sent_after_close_has_a_new_connection(receiver: OtlpReceiver) -> None:
    with sender(receiver) as made:
        assert sent(made).outcome == Delivered()
        made.close()
        assert sent(made).outcome == Delivered()
    assert len({request.connection for request in receiver.requests}) == 2


def test_headers_that_change_are_sent_as_they_are_now(receiver: OtlpReceiver) -> None:
    own = {"X-Own": "one"}
    with sender(receiver) as made:
        for value in ("one", "two", "two"):
            own["X-Own"] = value
            made.send(b"", "text/plain", gzip=value == "two", timeout_s=30, headers=own)
    told = [(request.headers["x-own"], request.headers.get("content-encoding")) for request in receiver.requests]
    assert told == [("one", None), ("two", "gzip"), ("two", "gzip")]


def test_an_answer_too_long_to_read_costs_its_connection_only(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(200, b"x" * (2 * MAX_RESPONSE_BYTES)), ok())
    with sender(receiver) as made:
        answer = sent(made)
        assert answer.outcome == Delivered()
        assert len(answer.body) == MAX_RESPONSE_BYTES
        assert sent(made).outcome == Delivered()
    assert len({request.connection for request in receiver.requests}) == 2


def test_many_threads_share_a_sender(receiver: OtlpReceiver) -> None:
    outcomes: list[object] = []
    with sender(receiver) as made:
        threads = [threading.Thread(target=lambda: outcomes.append(sent(made).outcome)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes == [Delivered()] * 16


# What comes of it.


@pytest.mark.parametrize("code", [200, 201, 202, 204])
def test_only_2xx_is_success(receiver: OtlpReceiver, code: int) -> None:
    receiver.answer_with(status(code))
    with sender(receiver) as made:
        assert sent(made).outcome == Delivered()


@pytest.mark.parametrize("code", [401, 403, 407, 408, 425, 429, 500, 502, 503, 504, 520, 599])
def test_what_may_pass_is_tried_again(receiver: OtlpReceiver, code: int) -> None:
    receiver.answer_with(status(code, b"try\n later", {"Retry-After": "7"}))
    with sender(receiver) as made:
        outcome = sent(made).outcome
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 7.0
    assert outcome.reason.startswith(f"Product at 127.0.0.1:{receiver.port}/v1/traces: HTTP {code}")
    assert outcome.reason.endswith("(try later)")
    assert ("invalid credentials" in outcome.reason) == (code in {401, 403, 407})


@pytest.mark.parametrize("code", [400, 402, 404, 405, 406, 409, 410, 413, 415, 422, 451, 501, 505])
def test_what_will_not_pass_is_refused(receiver: OtlpReceiver, code: int) -> None:
    receiver.answer_with(status(code, b"no"))
    with sender(receiver) as made:
        outcome = sent(made).outcome
    assert isinstance(outcome, Rejected)
    assert outcome.too_large == (code == 413)
    assert outcome.invalid_content == (code in {400, 422})
    assert f"HTTP {code}" in outcome.reason
    assert ("no endpoint for spans at this URL" in outcome.reason) == (code in {404, 405})


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_but_named(receiver: OtlpReceiver, code: int) -> None:
    receiver.answer_with(redirect(f"https://user:{CANARY}@login.test:8443/sso?next={CANARY}#{CANARY}", code), ok())
    with sender(receiver) as made:
        outcome = sent(made).outcome
    assert isinstance(outcome, Rejected)
    assert "login.test:8443/sso," in outcome.reason
    assert CANARY not in outcome.reason
    assert len(receiver.requests) == 1


def test_a_relative_redirect_is_named_with_its_host(receiver: OtlpReceiver) -> None:
    receiver.answer_with(redirect("/login?a=b"))
    with sender(receiver) as made:
        assert f"127.0.0.1:{receiver.port}/login," in str(sent(made).outcome)


def test_a_page_on_success_is_a_wrong_url(receiver: OtlpReceiver) -> None:
    receiver.answer_with(html())
    with sender(receiver) as made:
        outcome = sent(made).outcome
    assert isinstance(outcome, Rejected)
    assert "HTML page" in outcome.reason
    assert "/v1/traces" in outcome.reason


def test_a_page_on_failure_is_not_quoted(receiver: OtlpReceiver) -> None:
    receiver.answer_with(html(503))
    with sender(receiver) as made:
        outcome = sent(made).outcome
    assert isinstance(outcome, Retry)
    assert outcome.reason.endswith("HTTP 503 (an HTML page)")


def test_a_page_on_400_says_nothing_of_the_batch(receiver: OtlpReceiver) -> None:
    receiver.answer_with(html(400))
    with sender(receiver) as made:
        assert sent(made).outcome == Rejected(
            f"Product at 127.0.0.1:{receiver.port}/v1/traces: HTTP 400 (an HTML page)"
        )


def test_a_bare_word_with_the_type_of_a_page_is_success(receiver: OtlpReceiver) -> None:
    """Frameworks call every text HTML unless told otherwise."""
    receiver.answer_with(status(200, b"ok", {"Content-Type": "text/html"}))
    with sender(receiver) as made:
        assert sent(made).outcome == Delivered()


def test_a_long_answer_is_shortened(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(400, b"y" * 5000))
    with sender(receiver) as made:
        outcome = sent(made).outcome
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
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


def test_retry_after_is_read_from_the_answer_as_a_date(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(503, headers={"Retry-After": formatdate(NOW + 30, usegmt=True)}))
    with sender(receiver) as made:
        outcome = sent(made).outcome
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 30.0


# Connections that fail.


def test_nobody_there_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with sender(f"http://127.0.0.1:{taken.getsockname()[1]}/v1/traces?token={CANARY}") as made:
            outcome = sent(made).outcome
    assert isinstance(outcome, Retry)
    assert outcome.reason.endswith("Connection refused")
    assert CANARY not in outcome.reason


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".test"])
def test_a_name_without_an_address_is_tried_again(host: str) -> None:
    with sender(f"http://{host}/v1/traces") as made:
        outcome = sent(made).outcome
    assert isinstance(outcome, Retry)
    assert host in outcome.reason


def test_a_connection_cut_in_the_middle_is_tried_again_on_a_new_one(receiver: OtlpReceiver) -> None:
    receiver.answer_with(cut(), ok())
    with sender(receiver) as made:
        outcome = sent(made).outcome
        assert sent(made).outcome == Delivered()
    assert isinstance(outcome, Retry)
    assert outcome.reason.endswith("Remote end closed connection without response")


def test_an_answer_that_breaks_off_is_tried_again(receiver: OtlpReceiver) -> None:
    # Two lengths: the handler adds the true one, the client believes the first.
    receiver.answer_with(status(200, b"{}", {"Content-Length": "10", "Connection": "close"}))
    with sender(receiver) as made:
        outcome = sent(made).outcome
    assert isinstance(outcome, Retry)


@pytest.mark.parametrize("reply", [hold(), drip(), drip(head=True), deaf()], ids=["silent", "body", "head", "deaf"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
def test_the_time_limit_holds_for_the_whole_exchange(tmp_path: Path, reply: Reply, is_secure: bool) -> None:
    """The server never stops: that this returns at all is what is tested."""
    identity = certificate(tmp_path) if is_secure else None
    with OtlpReceiver(tls=identity) as receiver:
        receiver.answer_with(reply, ok())
        with sender(receiver, tls=Tls(ca_file=identity and identity.cert)) as made:
            large = payload().json if reply.fault != "deaf" else b" " * 50_000_000
            outcome = sent(made, 0.3, large).outcome
            assert isinstance(outcome, Retry)
            assert outcome.reason.endswith("no response in time")
            if reply.fault.startswith("drip"):
                assert receiver.wait_for(lambda: receiver.hang_ups == 1)
            receiver.release()
            assert sent(made).outcome == Delivered()


def test_the_shorter_of_the_two_time_limits_counts(receiver: OtlpReceiver) -> None:
    receiver.answer_with(drip())
    with sender(receiver, timeout=0.2) as made:
        assert isinstance(sent(made, 600).outcome, Retry)


def test_a_handshake_that_never_comes_ends_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with sender(f"https://127.0.0.1:{silent.getsockname()[1]}") as made:
            assert str(sent(made, 0.2).outcome).count("no response in time") == 1


# Whom we trust.


@pytest.fixture
def identity(tmp_path: Path) -> Certificate:
    return certificate(tmp_path)


def test_an_unknown_certificate_is_told_as_such(identity: Certificate) -> None:
    with OtlpReceiver(tls=identity) as receiver, sender(receiver) as made:
        outcome = sent(made).outcome
        assert isinstance(outcome, Retry)
        assert "TLS: self-signed certificate" in outcome.reason
        assert receiver.requests == []


def test_a_certificate_for_another_host_is_not_taken(tmp_path: Path) -> None:
    other = certificate(tmp_path, "other.test")
    with OtlpReceiver(tls=other) as receiver, sender(receiver, tls=Tls(ca_file=other.cert)) as made:
        outcome = sent(made).outcome
    assert isinstance(outcome, Retry)
    assert "certificate is not valid for '127.0.0.1'" in outcome.reason


@pytest.mark.parametrize("trusted", [True, False])
def test_own_authorities_or_none_at_all(identity: Certificate, trusted: bool) -> None:
    tls = Tls(ca_file=identity.cert) if trusted else Tls(verify=False)
    with OtlpReceiver(tls=identity) as receiver, sender(receiver, tls=tls) as made:
        assert [sent(made).outcome, sent(made).outcome] == [Delivered(), Delivered()]
        assert len({request.connection for request in receiver.requests}) == 1


def test_a_client_certificate_is_shown(identity: Certificate, tmp_path: Path) -> None:
    client = certificate(tmp_path / "client", "client.test")
    with OtlpReceiver(tls=identity, client_ca=client.cert) as receiver:
        with sender(receiver, tls=Tls(ca_file=identity.cert)) as made:
            assert isinstance(sent(made).outcome, Retry)
        with sender(receiver, tls=Tls(ca_file=identity.cert, cert_file=client.cert, key_file=client.key)) as made:
            assert sent(made).outcome == Delivered()


def test_files_that_are_no_certificates_are_told_at_once(tmp_path: Path, identity: Certificate) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"ca_file: .*wrong\.pem"):
        HttpSender("https://h.test", product="P", tls=Tls(ca_file=wrong))
    with pytest.raises(ConfigError, match=r"cert_file: .*wrong\.pem"):
        HttpSender("https://h.test", product="P", tls=Tls(cert_file=wrong))
    with pytest.raises(ConfigError, match=r"cert_file: .*127\.0\.0\.1\.pem"):
        HttpSender("https://h.test", product="P", tls=Tls(cert_file=identity.cert, key_file=wrong))


# Proxies.


def test_a_proxy_of_its_own_is_used_with_its_password(receiver: OtlpReceiver) -> None:
    proxy = receiver.url.replace("://", f"://user:{CANARY}@")
    with sender("http://far.test/v1/traces?a=b", proxy=proxy) as made:
        assert sent(made).outcome == Delivered()
    [request] = receiver.requests
    assert request.path == "http://far.test/v1/traces?a=b"
    assert request.headers["host"] == "far.test"
    assert request.headers["proxy-authorization"].startswith("Basic ")


def test_https_goes_through_a_tunnel(receiver: OtlpReceiver) -> None:
    with sender("https://far.test/v1/traces", proxy=receiver.url, headers={"Authorization": CANARY}) as made:
        outcome = sent(made).outcome
    assert isinstance(outcome, Retry)
    assert "502" in outcome.reason
    [request] = receiver.requests
    assert (request.method, request.path) == ("CONNECT", "far.test:443")
    assert CANARY not in str(request)


def test_the_environment_names_a_proxy(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url)
    with sender("http://far.test/v1/traces") as made:
        assert sent(made).outcome == Delivered()
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


def test_a_user_in_the_url_becomes_basic(receiver: OtlpReceiver) -> None:
    with sender(receiver.url.replace("://", "://me:p%40ss@") + "/in?x=1#part") as made:
        sent(made)
    [request] = receiver.requests
    assert request.headers["authorization"] == "Basic bWU6cEBzcw=="
    assert request.path == "/in?x=1"


def test_headers_from_is_asked_once_and_again_when_refused(receiver: OtlpReceiver) -> None:
    keys = iter(["old", "new"])

    def by_key(request: Request) -> Reply:
        return ok() if request.headers["x-key"] == "new" else status(401)

    receiver.answer_with(ok(), ok(), by_key)
    with sender(receiver, headers={"X-KEY": "fixed"}, headers_from=lambda: {"x-key": next(keys)}) as made:
        assert [sent(made).outcome for _ in range(3)] == [Delivered()] * 3
    assert [request.headers["x-key"] for request in receiver.requests] == ["old", "old", "old", "new"]


def test_headers_from_is_asked_again_only_once_per_batch(receiver: OtlpReceiver) -> None:
    keys = iter(range(100))
    receiver.answer_with(status(401))
    with sender(receiver, headers_from=lambda: {"x-key": str(next(keys))}) as made:
        assert isinstance(sent(made).outcome, Retry)
    assert [request.headers["x-key"] for request in receiver.requests] == ["0", "1"]


def test_the_same_headers_are_not_sent_twice(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(401))
    with sender(receiver, headers_from=lambda: {"x-key": "same"}) as made:
        assert isinstance(sent(made).outcome, Retry)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "given", [lambda: 1 / 0, lambda: None, lambda: {"x-key": f"{CANARY}\r\nx: y"}, lambda: {"x key": CANARY}]
)
def test_headers_from_that_fails_sends_nothing(
    receiver: OtlpReceiver, given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    former = reraise_internal_errors(enabled=False)
    try:
        with sender(receiver, headers_from=given) as made:
            outcome = sent(made).outcome
    finally:
        reraise_internal_errors(enabled=former)
    assert isinstance(outcome, Retry)
    assert "headers_from failed" in outcome.reason
    assert receiver.requests == []
    assert CANARY not in caplog.text


@pytest.mark.parametrize("code", [200, 302, 400, 401, 413, 503])
def test_no_credential_is_ever_shown(receiver: OtlpReceiver, code: int, caplog: pytest.LogCaptureFixture) -> None:
    """The server quotes all it got; nothing of it comes out again."""
    caplog.set_level(logging.DEBUG)
    password, query, rotated = f"pass/{CANARY}", f"query {CANARY}", f"rotated-{CANARY}"
    url = receiver.url.replace("://", "://canary-user:pass%2F" + CANARY + "@") + f"/v1/traces?key=query+{CANARY}"

    def echo(request: Request) -> Reply:
        said = f"{request.headers} {request.path} {password} {query} canary-user {CANARY} {rotated}"
        return status(code, said.encode(), {"Location": f"/{CANARY}/{rotated}"})

    receiver.answer_with(echo)
    with sender(url, headers={"X-Api-Key": f"Bearer {CANARY}"}, headers_from=lambda: {"X-Other": rotated}) as made:
        answer = sent(made)
        shown = f"{answer.outcome} {answer!r} {made!r} {caplog.text}"
    assert len(receiver.requests) == 1
    assert "canary" not in shown.lower()
    assert "***" in shown or code == 200


def test_passwords_are_known_out_of_basic() -> None:
    given = Credentials("http://h", {"Authorization": "Basic dXNlcjpzM2NyM3QtcGFzcw==", "X-Bad": "Basic !"})
    assert given.redact("user:s3cr3t-pass or s3cr3t-pass or dXNlcjpzM2NyM3QtcGFzcw==") == "*** or *** or ***"
    assert "s3cr3t" not in repr(given)
    assert Credentials("http://h", {}).redact("a\x00b\n\x1b[31m c") == "a b [31m c"


def test_what_a_destination_is_told_reaches_its_sender(receiver: OtlpReceiver) -> None:
    told: Any = config(
        "webhook", url=receiver.url, headers={"x-key": CANARY, "X-Own": "1"}, timeout="9s", headers_from=dict
    )
    made = sender_of(told, receiver.url, product="Webhook", headers={"X-Key": "vendor", "X-Kept": "2"})
    assert sent(made).outcome == Delivered()
    made.close()
    [request] = receiver.requests
    assert {name: request.headers.get(name) for name in ("x-key", "x-own", "x-kept")} == {
        "x-key": CANARY,
        "x-own": "1",
        "x-kept": "2",
    }


# Beside others.


def test_nobody_traces_our_requests(receiver: OtlpReceiver, spans: CapturedSpans) -> None:
    import urllib3
    from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor

    URLLib3Instrumentor().instrument(tracer_provider=spans.provider)
    try:
        with sender(receiver) as made:
            assert sent(made).outcome == Delivered()
        with urllib3.PoolManager() as theirs:
            theirs.request("POST", receiver.url)
    finally:
        URLLib3Instrumentor().uninstrument()
    # The user's own request is traced as ever; ours is not, and carried no context along.
    assert spans.names() == ["POST"]
    ours, other = receiver.requests
    assert "traceparent" not in ours.headers
    assert "traceparent" in other.headers


def test_a_child_sends_by_a_connection_of_its_own(receiver: OtlpReceiver) -> None:
    with sender(receiver) as made:
        sent(made)
        child = os.fork()
        if child == 0:
            try:
                outcome = sent(made).outcome
                made.close()
                os._exit(0 if outcome == Delivered() else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        sent(made)
    before, theirs, after = (request.connection for request in receiver.requests)
    assert before == after
    assert theirs != before


def test_a_child_that_never_sends_may_close(receiver: OtlpReceiver) -> None:
    with sender(receiver) as made:
        sent(made)
        child = os.fork()
        if child == 0:
            try:
                made.close()
                os._exit(0)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        sent(made)
    assert len({request.connection for request in receiver.requests}) == 1
