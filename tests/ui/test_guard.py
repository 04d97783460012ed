"""Host, Origin and token, over a real socket."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from tests.destinations.spans import conversation
from tests.ui.served import NoDeliveries, served

from spancast.destinations.span_store import Store
from spancast.ui.app import create_app


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "spans.db")
    store.write(conversation())
    return store


@pytest.fixture
def address(store: Store) -> Iterator[str]:
    with served(store.path) as running:
        yield running


def ask(address: str, method: str = "GET", path: str = "/", body: str = "", **headers: str) -> Any:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if method == "POST":
        named.setdefault("Content-Type", "application/x-www-form-urlencoded")
    connection.request(method, path, body or None, named)
    response = connection.getresponse()
    response.text = response.read().decode()  # type: ignore[attr-defined]
    connection.close()
    return response


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4319", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"]
)
def test_host_of_another_name_is_refused(address: str, host: str) -> None:
    assert ask(address, Host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:4319", "[::1]:4319", "LOCALHOST:1"])
def test_host_of_this_machine_is_served(address: str, host: str) -> None:
    assert ask(address, Host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "{address}", "Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_change_of_another_site_is_refused(address: str, store: Store, headers: dict[str, str]) -> None:
    given = {name: value.format(address=address) for name, value in headers.items()}
    for path in ("/delete", "/spool"):
        assert ask(address, "POST", path, "everything=delete everything", **given).status == 403
    assert len(store.traces()) == 1


def test_change_of_the_own_page_is_done(address: str, store: Store) -> None:
    response = ask(
        address, "POST", "/delete", "everything=delete everything", Origin=address, Sec_Fetch_Site="same-origin"
    )
    assert response.status == 303
    assert store.traces() == []


def test_spans_of_another_site_are_refused(address: str) -> None:
    headers = {"Content_Type": "application/json", "Origin": "http://evil.example"}
    assert ask(address, "POST", "/v1/traces", "{}", **headers).status == 403


@pytest.mark.parametrize("path", ["/", "/delete", "/trace/none", "/static/page.js"])
def test_every_response_has_the_headers(address: str, path: str) -> None:
    headers = ask(address, path=path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com"])
def test_other_address_without_token_raises(tmp_path: Path, host: str) -> None:
    with pytest.raises(ValueError, match="a token is needed"):
        create_app(tmp_path / "spans.db", NoDeliveries(), host=host)


def test_token_is_required_and_leaves_the_address(store: Store) -> None:
    with served(store.path, host="0.0.0.0", token="s3cret") as address:
        for path in ("/", "/static/page.js", "/?token=wrong", "/?token="):
            assert ask(address, path=path).status == 401
        assert ask(address, "POST", "/v1/traces", "{}", Content_Type="application/json").status == 401
        assert ask(address, Cookie="spancast_token=wrong").status == 401
        entered = ask(address, path="/?q=a%26b&token=s3cret", Host="mine.example:4319")
        assert (entered.status, entered.headers["location"]) == (303, "/?q=a%26b")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        page = ask(address, Host="mine.example:4319", Cookie=cookie.partition(";")[0])
        assert page.status == 200
        assert "s3cret" not in page.text
        headers = {"Content_Type": "application/json", "Authorization": "Bearer s3cret"}
        assert ask(address, "POST", "/v1/traces", "{}", **headers).status == 200
        # Another site gets no redirect to somewhere else.
        assert ask(address, path="//evil.example/?token=s3cret").headers["location"].startswith("/evil.example")


@pytest.mark.parametrize(
    "value", ["9" * 30, "-1", "nan", "inf", "1e308", "1e400", "²", "٣", "9999999999d", "\0", "(", '"']
)
def test_odd_values_in_an_address_get_a_page(address: str, value: str) -> None:
    given = quote(value)
    for path in ("/?before=", "/?min_cost=", "/?min_s=", "/?since=", "/?where=", "/?q=", "/sessions?before=", "/session?from=", "/totals?since=", "/totals?by=", "/export.csv?before=", "/export.jsonl?min_s=", "/trace/", "/compare?a="):  # fmt: skip
        assert ask(address, path=path + given).status in (200, 404), path


def test_unusual_requests_get_an_answer(address: str) -> None:
    for path in ("/trace/%00", "/trace/..%2f..%2fetc%2fpasswd", "/static/../app.py", "/session?id=%ff", "/?before=x&since=-1", "/totals?by=%22%5D", "/compare?a=x", "/nothing"):  # fmt: skip
        assert ask(address, path=path).status in (200, 404), path
    assert ask(address, "PUT", Origin=address).status == 405
