"""The checks before every request: Host, token, Origin; and the headers of every response.

A page of another site can make a browser send requests to this machine, and with a name that resolves to it (DNS
rebinding) also read the answers. So the Host must be ours, and what changes something must come from our own page.
"""

from __future__ import annotations

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "spancast_token"
TOKEN: Final = "token"  # noqa: S105 - the name of a parameter
_SAFE: Final = ("GET", "HEAD")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # `no-referrer` would make the Origin of our own forms `null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that rejects requests of other sites and, with a ``token``, of other people.

    ``host`` is the address of the server. Without a token it must be a loopback address.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        if token is None and not is_loopback(host):
            raise ValueError(f"a token is needed for {host}, which is not a loopback address")
        self._app = app
        self._hosts = _LOOPBACK if token is None else None
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        # With a token any name may lead here; the cookie belongs to one name, and no other site can send it.
        if self._hosts is not None and _host_name(host) not in self._hosts:
            return PlainTextResponse(f"unknown host {host!r}; open http://localhost", 421)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        is_own = origin is None or urlsplit(origin).netloc == host
        is_change = scope["method"] not in _SAFE
        if not is_own or (is_change and site not in (None, "same-origin", "none")):
            return PlainTextResponse("requests of other sites are refused", 403)
        # Programs send spans without an Origin; a browser names it with each form.
        if is_change and origin is None and not scope["path"].startswith("/v1/"):
            return PlainTextResponse("a change needs the Origin of the page", 403)
        return self._without_token(scope, headers) if self._token is not None else None

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        token = self._token or ""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in query if name == TOKEN), None)
        if given is not None and scope["method"] in _SAFE and _is_equal(given, token):
            # Out of the address, which is shown, stored and sent to others.
            rest = urlencode([one for one in query if one[0] != TOKEN])
            response = RedirectResponse(f"/{scope['path'].lstrip('/')}{f'?{rest}' if rest else ''}", 303)
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return response
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if _is_equal(bearer, token) or _is_equal(_cookie(headers), token):
            return None
        return PlainTextResponse(
            "a token is needed: open the address that `spancast ui` printed, or send `Authorization: Bearer TOKEN`",
            401,
            {"WWW-Authenticate": "Bearer"},
        )


def _is_equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
