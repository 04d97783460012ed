"""One HTTP request per batch, within its time, and what came of it as an ``Outcome``.

Must never: follow a redirect, show a credential, be traced itself, or raise for what a server did.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email.utils
import functools
import http.client
import json
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3
from opentelemetry import context as context_api
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import parse_url

from spancast.destinations.config import NetworkConfig
from spancast.destinations.field_types import redacted_url
from spancast.destinations.protocol import Delivered, Outcome, Rejected, Retry
from spancast.diagnostics import never_raise
from spancast.errors import ConfigError
from spancast.model.version import VERSION
from spancast.otel_private import suppress_instrumentation

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_SHOWN: Final = 200
MAX_WAIT_S: Final = 3600.0
USER_AGENT: Final = f"spancast/{VERSION}"

_CONNECTIONS: Final = 4
_UNAUTHORIZED: Final = 401
_TOO_LARGE: Final = 413
_OF_CONTENT: Final = frozenset({400, 422})
_CREDENTIALS_REFUSED: Final = frozenset({_UNAUTHORIZED, 403, 407})
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_NEVER: Final = frozenset({501, 505})
"""Server errors that time does not heal: not implemented, HTTP version not supported."""
_HINTS: Final[Mapping[int, str]] = {
    **dict.fromkeys(_CREDENTIALS_REFUSED, ": the credentials were refused"),
    404: ": nothing takes spans there, so the URL is wrong or the server too old",
    405: ": nothing takes spans there, so the URL is wrong or the server too old",
    _TOO_LARGE: ": the batch is too large",
}
_NO_HEADERS: Final[Mapping[str, str]] = {}
_GZIP: Final[Mapping[str, str]] = {"Content-Encoding": "gzip"}
_SENDABLE: Final = re.compile(r"[!-9;-~]+:[^\x00-\x1f\x7f]*")
_MIN_SECRET: Final = 4
"""Shorter values ("0", "v1") are no credentials, and would make the rest of a text unreadable."""
_MIN_SECRET_PART: Final = 8

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=socket.socket)

_deadline: ContextVar[float | None] = ContextVar("spancast_deadline", default=None)


def _time_left() -> float | None:
    deadline = _deadline.get()
    if deadline is None:
        return None
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError("no answer in time")
    return left


# urllib3 writes the whole URL, its query too, to its log.
logging.getLogger("urllib3.connectionpool").addFilter(lambda _: _deadline.get() is None)


def _in_time(step: Callable[Concatenate[S, P], R]) -> Any:  # noqa: ANN401 - takes the place of a method of C
    @functools.wraps(step)
    def timed(sock: S, *args: P.args, **others: P.kwargs) -> R:
        sock.settimeout(_time_left())
        return step(sock, *args, **others)

    return timed


class _Socket(socket.socket):
    """A socket whose every step ends by the deadline: a timeout per step never ends for a server that drips."""

    recv_into = _in_time(socket.socket.recv_into)
    sendall = _in_time(socket.socket.sendall)


class _TlsSocket(ssl.SSLSocket):
    """The same over TLS; its ``sendall`` is made of ``send``, and a proxy spoken to by TLS is read by ``recv``."""

    recv_into = _in_time(ssl.SSLSocket.recv_into)
    recv = _in_time(ssl.SSLSocket.recv)
    send = _in_time(ssl.SSLSocket.send)
    do_handshake = _in_time(ssl.SSLSocket.do_handshake)


def _dialled(host: str, port: int, options: Any) -> socket.socket:  # noqa: ANN401 - urllib3's own type
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError:
        found = []
    failure = OSError("the name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        dialling = _Socket(family, kind, protocol)
        try:
            for option in options or ():
                dialling.setsockopt(*option)
            # A share for each address: one that swallows packets must not use up the time of the next.
            left = _time_left()
            dialling.settimeout(None if left is None else left / (len(found) - number))
            dialling.connect(address)
        except OSError as error:
            dialling.close()
            failure = error
        else:
            return dialling
    raise failure


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _dialled(self._dns_host, self.port, self.socket_options)


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _dialled(self._dns_host, self.port, self.socket_options)


class _Pool(HTTPConnectionPool):
    ConnectionCls: Any = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls: Any = _TlsConnection

    def _validate_conn(self, conn: Any) -> None:  # noqa: ANN401
        # Without the warning for each unverified request: ``verify: false`` was asked for.
        if conn.is_closed:
            conn.connect()


@contextlib.contextmanager
def untraced() -> Generator[None, None, None]:
    """Let no instrumentation of HTTP or gRPC trace what is sent inside (F3)."""
    token = context_api.attach(suppress_instrumentation(context_api.get_current()))
    try:
        yield
    finally:
        context_api.detach(token)


class Credentials:
    """The headers of one destination, and what must never be shown of them.

    ``headers_from`` is asked at first use, and again when the server refuses what it gave.
    """

    def __init__(self, url: str, headers: Mapping[str, str], headers_from: Callable[[], Any] | None = None) -> None:
        self._given = merged(_basic(url), headers)
        self._headers_from = headers_from
        self._current: Mapping[str, str] | None = None if headers_from else self._given
        self._url_secrets = _url_secrets(url)
        self._secrets = _pattern([*self._url_secrets, *self._given.values()])

    def __repr__(self) -> str:
        return f"Credentials({', '.join(self._given)})"

    def headers(self) -> Mapping[str, str] | None:
        """Return what to send; None where ``headers_from`` failed."""
        return self.renewed() if self._current is None else self._current

    def renewed(self) -> Mapping[str, str] | None:
        """Return what ``headers_from`` says now; None where it says the same as before, or nothing."""
        former, found = self._current, self._asked()
        if found is None or found == former:
            return None
        self._current = found
        self._secrets = _pattern([*self._url_secrets, *found.values(), *(former or {}).values()])
        return found

    def shown(self, text: str) -> str:
        """Return the start of ``text`` on one line, without any credential."""
        clean = self._secrets.sub("***", text) if self._secrets else text
        line = " ".join("".join(sign if sign.isprintable() else " " for sign in clean).split())
        return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"

    @never_raise
    def _asked(self) -> Mapping[str, str] | None:
        return merged(self._given, self._headers_from()) if self._headers_from else None


def merged(*parts: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of all ``parts``; the later wins, whatever the case of its name.

    Raises:
        ValueError: A value cannot be sent; the message does not show it.
    """
    found: dict[str, tuple[str, str]] = {}
    for name, value in (pair for part in parts for pair in part.items()):
        if not _SENDABLE.fullmatch(f"{name}:{value.strip()}"):
            raise ValueError(f"header {name!r} cannot be sent")
        found[name.lower()] = (name, value.strip())
    return dict(found.values())


def _basic(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _url_secrets(url: str) -> list[str]:
    parts = urlsplit(url)
    queried = [value for _, value in parse_qsl(parts.query)]
    return [parts.query, *queried, *(unquote(part) for part in (parts.username, parts.password) if part)]


def _pattern(values: list[str]) -> re.Pattern[str] | None:
    secrets = {value for value in values if len(value) >= _MIN_SECRET}
    # A server that refuses "Bearer KEY" may quote KEY alone, or the password out of Basic.
    words = [word for value in values for word in (*value.split(), *re.split(r"[\s,;=:]+", value), *_decoded(value))]
    secrets |= {word for word in words if len(word) >= _MIN_SECRET_PART}
    forms = {form for one in secrets for form in (one, quote(one), quote(one, safe=""), json.dumps(one)[1:-1])}
    return re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))) if forms else None


def _decoded(value: str) -> list[str]:
    scheme, _, rest = value.partition(" ")
    if scheme.lower() != "basic":
        return []
    try:
        pair = base64.b64decode(rest).decode()
    except (binascii.Error, UnicodeDecodeError):
        return []
    return [pair, *pair.split(":", 1)]


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust, and who we are, as PEM files."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Return what sockets are made with.

        Raises:
            ConfigError: A file cannot be read as what it should be.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ConfigError(
                f"ca_file: {self.ca_file} is not a PEM file of certificates ({type(error).__name__})"
            ) from None
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"cert_file: {self.cert_file} and its key cannot be used ({type(error).__name__})"
                ) from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.sslsocket_class = _TlsSocket
        return context


def _no_password() -> str:
    # OpenSSL would ask at the terminal.
    raise ValueError("the key has a password")


def proxy_for(url: str, given: str | None = None) -> str | None:
    """Return the proxy to ``url``: the one given, else as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say.

    Raises:
        ConfigError: It is of a kind we do not speak.
    """
    parts = urlsplit(url)
    found = given
    if found is None:
        found = getproxies_environment().get(parts.scheme)
        # NO_PROXY may name a host, or a host with its port.
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
        if not found or proxy_bypass(host):
            return None
    found = found if "://" in found else f"http://{found}"
    if urlsplit(found).scheme not in {"http", "https"}:
        raise ConfigError(f"proxy: {redacted_url(found)} must start with http:// or https://")
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: ``status`` is 0 where there was no answer."""

    outcome: Outcome
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS, repr=False)
    """By lower-case names."""
    body: bytes = field(default=b"", repr=False)


class _Way(NamedTuple):
    """How requests get to a URL: whom to ask, what for, and how to close."""

    pool: HTTPConnectionPool | urllib3.PoolManager
    target: str
    close: Callable[[], None]


class HttpSender:
    """Sends to one URL over connections that are kept."""

    def __init__(  # noqa: PLR0913 - all that the configuration of one destination says
        self,
        url: str,
        *,
        product: str,
        method: str = "POST",
        headers: Mapping[str, str] = _NO_HEADERS,
        headers_from: Callable[[], Any] | None = None,
        timeout: float = 10.0,
        tls: Tls | None = None,
        proxy: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Raise ``ConfigError`` where a file or a proxy cannot be used; nothing is sent yet."""
        parts = urlsplit(url)
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        self._where = f"{product} at {_place(url)}"
        self._method = method
        self._credentials = Credentials(url, headers, headers_from)
        self._timeout = timeout
        self._now = now
        self._proxy = proxy_for(url, proxy)
        self._tls = (tls or Tls()).context()
        self._ways: dict[int, _Way] = {}
        self._last_headers: tuple[tuple[Mapping[str, str], ...], dict[str, str]] = ((), {})

    def __repr__(self) -> str:
        return f"HttpSender({self._where})"

    def shown(self, text: str) -> str:
        """Return ``text`` as it may stand in an outcome."""
        return self._credentials.shown(text)

    def send(
        self, body: bytes, content_type: str, *, gzip: bool, timeout_s: float, headers: Mapping[str, str] = _NO_HEADERS
    ) -> Answer:
        """Send ``body`` (compressed already where ``gzip``); all of it, the answer too, within ``timeout_s``."""
        own = {"Content-Type": content_type, "User-Agent": USER_AGENT, **(_GZIP if gzip else _NO_HEADERS)}
        given = self._credentials.headers()
        if given is None:
            return Answer(Retry(f"{self._where}: headers_from failed, so nothing was sent"))
        with _within(min(timeout_s, self._timeout)), untraced():
            answer = self._exchange(body, self._encoded(given, own, headers))
            if answer.status == _UNAUTHORIZED and (renewed := self._credentials.renewed()) is not None:
                answer = self._exchange(body, self._encoded(renewed, own, headers))
        return answer

    def close(self) -> None:
        """Close the connections."""
        way = self._ways.pop(os.getpid(), None)
        if way is not None:
            way.close()

    def _encoded(self, *parts: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of all ``parts`` as urllib3 wants them; made once for batches alike."""
        known, encoded = self._last_headers
        if known != parts:
            # A header is bytes to the server; text beyond ASCII goes as UTF-8.
            encoded = {name: value.encode().decode("latin-1") for name, value in merged(*parts).items()}
            self._last_headers = tuple(map(dict, parts)), encoded
        return encoded

    def _exchange(self, body: bytes, headers: dict[str, str]) -> Answer:
        try:
            way = self._current_way()
            response = way.pool.urlopen(
                self._method,
                way.target,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=_time_left(),
            )
            text = _read(response)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            return Answer(Retry(f"{self._where}: {self.shown(_cause(error))}"))
        told = {name.lower(): value for name, value in response.headers.items()}
        return Answer(self._outcome(response.status, told, text), response.status, told, text)

    def _outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        is_page = _is_page(body)
        if http.client.OK <= status < http.client.MULTIPLE_CHOICES:
            if is_page:
                return Rejected(f"{self._where}: HTTP {status} with an HTML page, so the URL is not that of an API")
            return Delivered()
        if http.client.MULTIPLE_CHOICES <= status < http.client.BAD_REQUEST:
            to = self.shown(_place(urljoin(self._url, headers.get("location", ""))))
            return Rejected(f"{self._where}: HTTP {status}, a redirect to {to}, which is not followed: give that URL")
        text = "an HTML page" if is_page else self.shown(body.decode(errors="replace"))
        reason = f"{self._where}: HTTP {status}{_HINTS.get(status, '')}{f' ({text})' if text else ''}"
        is_passing = status in _TRY_AGAIN or (status >= http.client.INTERNAL_SERVER_ERROR and status not in _NEVER)
        # A key that is refused may be restored or replaced; its spans must not be lost meanwhile.
        if is_passing or status in _CREDENTIALS_REFUSED:
            return Retry(reason, retry_after_s(headers.get("retry-after"), self._now()))
        # A page comes from a server that is not the one meant, whatever the batch holds.
        return Rejected(reason, too_large=status == _TOO_LARGE, invalid_content=status in _OF_CONTENT and not is_page)

    def _current_way(self) -> _Way:
        here = os.getpid()
        way = self._ways.get(here)
        if way is None:
            # After a fork: on an inherited connection, parent and child would talk at once.
            for parent in [owner for owner in self._ways if owner != here]:
                self._ways.pop(parent, None)
            way = self._ways.setdefault(here, self._way())
        return way

    def _way(self) -> _Way:
        options: dict[str, Any] = {"maxsize": _CONNECTIONS, "ssl_context": self._tls}
        if self._proxy is None:
            pools = urllib3.PoolManager(**options)
        else:
            authorization = {f"Proxy-{name}": value for name, value in _basic(self._proxy).items()}
            pools = urllib3.ProxyManager(
                self._proxy, proxy_headers=authorization, proxy_ssl_context=self._tls, **options
            )
        pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        if self._proxy is not None:
            return _Way(pools, self._url, pools.clear)
        # The pool itself: the manager would take the URL apart and look for its pool with each batch.
        return _Way(pools.connection_from_url(self._url), parse_url(self._url).request_uri, pools.clear)


def sender_of(
    config: NetworkConfig, url: str, *, product: str, method: str = "POST", headers: Mapping[str, str] = _NO_HEADERS
) -> HttpSender:
    """Return the sender to ``url`` with the transport of ``config``; its headers beat ``headers``."""
    return HttpSender(
        url,
        product=product,
        method=method,
        headers=merged(headers, {name: value.get_secret_value() for name, value in config.headers.items()}),
        headers_from=config.headers_from,
        timeout=config.timeout,
        tls=Tls(config.ca_file, config.cert_file, config.key_file, config.verify),
        proxy=config.proxy,
    )


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds of a ``Retry-After``, a number or a date, between none and an hour."""
    if value is None:
        return None
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]*)?\s*", value):
        seconds = float(value)
    else:
        try:
            at = email.utils.parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    return min(max(seconds, 0.0), MAX_WAIT_S)


@contextlib.contextmanager
def _within(timeout_s: float) -> Generator[None, None, None]:
    token = _deadline.set(time.monotonic() + timeout_s)
    try:
        yield
    finally:
        _deadline.reset(token)


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    body = response.read(MAX_ANSWER_BYTES)
    if len(body) < MAX_ANSWER_BYTES:
        response.release_conn()
    else:
        # What else it says is nothing to us; the connection cannot be used again.
        response.close()
    return body


def _is_page(body: bytes) -> bool:
    # By what is there: frameworks say text/html of a bare "ok" too.
    return body[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html", b"<!--"))


def _place(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + (parts.path or "/")


def _cause(error: BaseException) -> str:
    # urllib3's own messages quote the URL with its query, so what lies below them is told.
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None and below not in chain:
        chain.append(below)
    if any(isinstance(link, (TimeoutError, urllib3.exceptions.TimeoutError)) for link in chain):
        return "no answer in time"
    for link in reversed(chain):
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"TLS: {link.verify_message}"
        if isinstance(link, OSError):
            return link.strerror or str(link.args[0] if link.args else type(link).__name__)
    return f"the answer broke off ({type(chain[-1]).__name__})"
