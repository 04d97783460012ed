"""HTTP client of the destinations: one request per batch with a time limit, and its ``Outcome``.

Redirects are not followed, requests are not traced, credentials are never shown, and no server behaviour raises.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email.utils
import functools
import http.client
import ipaddress
import json
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Generator, Mapping, Sequence
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

from spancast import otel_private
from spancast.destinations.cloud_auth import Auth, HeadersFrom, Signer, headers_of, signer_of
from spancast.destinations.config import NetworkConfig
from spancast.destinations.field_types import redacted_url
from spancast.destinations.protocol import Delivered, Failure, Rejected, Retry
from spancast.destinations.status_codes import INVALID_CREDENTIALS, TOO_LARGE, is_retryable
from spancast.diagnostics import never_raise
from spancast.errors import ConfigError
from spancast.model.version import VERSION

MAX_RESPONSE_BYTES: Final = 64 * 1024
MAX_TEXT_LENGTH: Final = 200
MAX_WAIT_S: Final = 3600.0
USER_AGENT: Final = f"spancast/{VERSION}"

_POOL_SIZE: Final = 4
_UNAUTHORIZED: Final = 401
_CONTENT_ERRORS: Final = frozenset({400, 422})
_HINTS: Final[Mapping[int, str]] = {
    **dict.fromkeys(INVALID_CREDENTIALS, ": invalid credentials"),
    404: ": no endpoint for spans at this URL, or the server is too old",
    405: ": no endpoint for spans at this URL, or the server is too old",
    TOO_LARGE: ": the batch is too large",
    421: ": the account is in another region; configure the address of that region",
}
_NO_HEADERS: Final[Mapping[str, str]] = {}
_GZIP: Final[Mapping[str, str]] = {"Content-Encoding": "gzip"}
_SENDABLE: Final = re.compile(r"[!-9;-~]+:[^\x00-\x1f\x7f]*")
_MIN_SECRET: Final = 4
"""Shorter values ("0", "v1") are not credentials, and redacting them would make a text unreadable."""
_MIN_SECRET_PART: Final = 8

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=socket.socket)

_deadline: ContextVar[float | None] = ContextVar("spancast_deadline", default=None)


def _time_left() -> float | None:
    deadline = _deadline.get()
    if deadline is None:
        return None
    if (remaining := deadline - time.monotonic()) <= 0:
        raise TimeoutError("no response in time")
    return remaining


# urllib3 logs the complete URL, including the query.
logging.getLogger("urllib3.connectionpool").addFilter(lambda _: _deadline.get() is None)


def _with_deadline(step: Callable[Concatenate[S, P], R]) -> Any:  # noqa: ANN401 - replaces a C method
    @functools.wraps(step)
    def timed(sock: S, *args: P.args, **kwargs: P.kwargs) -> R:
        sock.settimeout(_time_left())
        return step(sock, *args, **kwargs)

    return timed


class _Socket(socket.socket):
    """A socket with a deadline for all operations: a timeout per operation has no effect on a slow sender."""

    recv_into = _with_deadline(socket.socket.recv_into)
    sendall = _with_deadline(socket.socket.sendall)


class _TlsSocket(ssl.SSLSocket):
    """The same for TLS; ``sendall`` uses ``send``, and a TLS proxy is read with ``recv``."""

    recv_into = _with_deadline(ssl.SSLSocket.recv_into)
    recv = _with_deadline(ssl.SSLSocket.recv)
    send = _with_deadline(ssl.SSLSocket.send)
    do_handshake = _with_deadline(ssl.SSLSocket.do_handshake)


def _connect(host: str, port: int, options: Any) -> socket.socket:  # noqa: ANN401 - urllib3's own type
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError:
        found = []
    failure = OSError("host name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        sock = _Socket(family, kind, protocol)
        try:
            for option in options or ():
                sock.setsockopt(*option)
            # Each address gets a share of the time, so that an unreachable one does not use all of it.
            remaining = _time_left()
            sock.settimeout(None if remaining is None else remaining / (len(found) - number))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self._dns_host, self.port, self.socket_options)


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self._dns_host, self.port, self.socket_options)


class _Pool(HTTPConnectionPool):
    ConnectionCls: Any = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls: Any = _TlsConnection

    def _validate_conn(self, conn: Any) -> None:  # noqa: ANN401
        # Without the warning per unverified request: the user set ``verify: false``.
        if conn.is_closed:
            conn.connect()


@contextlib.contextmanager
def suppress_instrumentation() -> Generator[None, None, None]:
    """Suppress HTTP and gRPC instrumentation inside the block."""
    token = context_api.attach(otel_private.suppress_instrumentation(context_api.get_current()))
    try:
        yield
    finally:
        context_api.detach(token)


class Credentials:
    """The headers of one destination, and the redaction of their values.

    ``headers_from`` is called on first use, and again if the server rejects its headers.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        headers_from: Callable[[], Any] | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        self._configured = merged(_basic(url), headers)
        self._headers_from = headers_from
        self._current: Mapping[str, str] | None = None if headers_from else self._configured
        self._url_secrets = [*_url_secrets(url), *secrets]
        self._secrets = _pattern([*self._url_secrets, *self._configured.values()])

    def __repr__(self) -> str:
        return f"Credentials({', '.join(self._configured)})"

    def headers(self) -> Mapping[str, str] | None:
        """Return the headers to send; None if ``headers_from`` failed."""
        return self.renew() if self._current is None else self._current

    def renew(self) -> Mapping[str, str] | None:
        """Call ``headers_from`` and return the headers; None if they are unchanged or it failed."""
        previous, found = self._current, self._call_headers_from()
        if found is None or found == previous:
            return None
        self._current = found
        self._secrets = _pattern([*self._url_secrets, *found.values(), *(previous or {}).values()])
        return found

    def redact(self, text: str) -> str:
        """Return the start of ``text`` on one line, with credentials replaced."""
        clean = self._secrets.sub("***", text) if self._secrets else text
        line = " ".join("".join(character if character.isprintable() else " " for character in clean).split())
        return line if len(line) <= MAX_TEXT_LENGTH else line[: MAX_TEXT_LENGTH - 1] + "…"

    @never_raise
    def _call_headers_from(self) -> Mapping[str, str] | None:
        return merged(self._configured, self._headers_from()) if self._headers_from else None


def merged(*parts: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of all ``parts``; later ones override, names are case-insensitive.

    Raises:
        ValueError: A header is invalid; the message does not show its value.
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
    query_values = [value for _, value in parse_qsl(parts.query)]
    return [parts.query, *query_values, *(unquote(part) for part in (parts.username, parts.password) if part)]


def _pattern(values: list[str]) -> re.Pattern[str] | None:
    secrets = {value for value in values if len(value) >= _MIN_SECRET}
    # An error of the server may quote only KEY of "Bearer KEY", or the password of Basic.
    words = [
        word for value in values for word in (*value.split(), *re.split(r"[\s,;=:]+", value), *_decode_basic(value))
    ]
    secrets |= {word for word in words if len(word) >= _MIN_SECRET_PART}
    forms = {form for one in secrets for form in (one, quote(one), quote(one, safe=""), json.dumps(one)[1:-1])}
    return re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))) if forms else None


def _decode_basic(value: str) -> list[str]:
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
    """PEM files of trusted authorities and of the client certificate."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Return the SSL context.

        Raises:
            ConfigError: A file is invalid.
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
    # Otherwise OpenSSL asks on the terminal.
    raise ValueError("the key has a password")


def proxy_for(url: str, given: str | None = None) -> str | None:
    """Return the proxy for ``url``: ``given``, else from HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

    Raises:
        ConfigError: The scheme of the proxy is not supported.
    """
    parts = urlsplit(url)
    found = given
    if found is None:
        found = getproxies_environment().get(parts.scheme)
        if not found or _bypasses_proxy(parts.hostname or "", parts.port):
            return None
    found = found if "://" in found else f"http://{found}"
    if urlsplit(found).scheme not in {"http", "https"}:
        raise ConfigError(f"proxy: {redacted_url(found)} must start with http:// or https://")
    return found


def _bypasses_proxy(host: str, port: int | None) -> bool:
    """Return whether NO_PROXY names ``host``: with or without a port, as a network, with ``*.``, or in brackets."""
    if proxy_bypass(f"{host}:{port}" if port else host):
        return True
    entries = [entry.strip() for entry in getproxies_environment().get("no", "").split(",")]
    if any(host == entry.strip("[]") or (entry.startswith("*.") and host.endswith(entry[1:])) for entry in entries):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for entry in entries if (network := _network(entry)) is not None)


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False) if "/" in entry else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class HttpResult:
    """The result of a request; ``status`` is 0 without a response."""

    outcome: Delivered | Failure
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS, repr=False)
    """Response headers by lower-case name."""
    body: bytes = field(default=b"", repr=False)


class _Connections(NamedTuple):
    """The connection pool for a URL, the request target, and the function that closes the pool."""

    pool: HTTPConnectionPool | urllib3.PoolManager
    target: str
    close: Callable[[], None]


class HttpSender:
    """Sends to one URL over persistent connections."""

    def __init__(  # noqa: PLR0913 - the configuration of one destination
        self,
        url: str,
        *,
        product: str,
        method: str = "POST",
        headers: Mapping[str, str] = _NO_HEADERS,
        headers_from: Callable[[], Any] | None = None,
        sign: Signer | None = None,
        timeout: float = 10.0,
        tls: Tls | None = None,
        proxy: str | None = None,
        secrets: Sequence[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        """Raise ``ConfigError`` if a file or a proxy cannot be used; do not connect yet."""
        parts = urlsplit(url)
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        self._label = f"{product} at {_host_and_path(url)}"
        self._method = method
        self._credentials = Credentials(url, headers, headers_from, secrets)
        self._sign = None if sign is None else never_raise(sign)
        self._timeout = timeout
        self._now = now
        self._proxy = proxy_for(url, proxy)
        self._tls = (tls or Tls()).context()
        self._connections: dict[int, _Connections] = {}
        self._last_headers: tuple[tuple[Mapping[str, str], ...], dict[str, str]] = ((), {})

    def __repr__(self) -> str:
        return f"HttpSender({self._label})"

    def redact(self, text: str) -> str:
        """Return the start of ``text`` with credentials replaced, for an outcome."""
        return self._credentials.redact(text)

    def send(  # noqa: PLR0913 - the parts of a request
        self,
        body: bytes,
        content_type: str,
        *,
        gzip: bool,
        timeout_s: float,
        headers: Mapping[str, str] = _NO_HEADERS,
        suffix: str = "",
        method: str | None = None,
    ) -> HttpResult:
        """Send ``body`` (already compressed if ``gzip``); ``timeout_s`` includes reading the response.

        ``suffix`` is appended to the URL, ``method`` replaces that of the sender.
        """
        request_headers = {"Content-Type": content_type, "User-Agent": USER_AGENT, **(_GZIP if gzip else _NO_HEADERS)}
        given = self._credentials.headers()
        if given is None:
            return HttpResult(Retry(f"{self._label}: no credentials: headers_from or auth failed, nothing was sent"))
        with _time_limit(min(timeout_s, self._timeout)), suppress_instrumentation():
            to = suffix, method or self._method
            result = self._send_once(body, self._encode_headers(given, request_headers, headers), *to)
            if result.status == _UNAUTHORIZED and (renew := self._credentials.renew()) is not None:
                result = self._send_once(body, self._encode_headers(renew, request_headers, headers), *to)
        return result

    def close(self) -> None:
        """Close the connections."""
        connections = self._connections.pop(os.getpid(), None)
        if connections is not None:
            connections.close()

    def _encode_headers(self, *parts: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of all ``parts`` in the encoding of urllib3; cached for equal parts."""
        known, encoded = self._last_headers
        if known != parts:
            # Headers are sent as bytes; non-ASCII text as UTF-8.
            encoded = {name: value.encode().decode("latin-1") for name, value in merged(*parts).items()}
            self._last_headers = tuple(map(dict, parts)), encoded
        return encoded

    def _send_once(self, body: bytes, headers: dict[str, str], suffix: str, method: str) -> HttpResult:
        if self._sign is not None:
            signed = self._sign(method, self._url + suffix, headers, body)
            if signed is None:
                return HttpResult(Retry(f"{self._label}: the request was not signed, nothing was sent"))
            headers = dict(signed)
        try:
            connections = self._current_connections()
            response = connections.pool.urlopen(
                method,
                connections.target + suffix,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=_time_left(),
            )
            text = _read(response)
        # ValueError: urllib3 does not check every number in a response, such as a negative size of a chunk.
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            return HttpResult(Retry(f"{self._label}: {self.redact(_cause(error))}"))
        response_headers = {name.lower(): value for name, value in response.headers.items()}
        return HttpResult(
            self._outcome(response.status, response_headers, text), response.status, response_headers, text
        )

    def _outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Delivered | Failure:
        is_page = _is_page(body)
        if http.client.OK <= status < http.client.MULTIPLE_CHOICES:
            if is_page:
                return Rejected(f"{self._label}: HTTP {status} with an HTML page; the URL is not an API endpoint")
            return Delivered()
        if http.client.MULTIPLE_CHOICES <= status < http.client.BAD_REQUEST:
            location = self.redact(_target(self._url, headers.get("location", "")))
            return Rejected(f"{self._label}: HTTP {status}, redirect to {location} is not followed; configure that URL")
        text = "an HTML page" if is_page else self.redact(body.decode(errors="replace"))
        reason = f"{self._label}: HTTP {status}{_HINTS.get(status, '')}{f' ({text})' if text else ''}"
        if is_retryable(status):
            return Retry(reason, retry_after_s(headers.get("retry-after"), self._now()))
        # An HTML page comes from the wrong server, regardless of the content of the batch.
        return Rejected(
            reason, too_large=status == TOO_LARGE, invalid_content=status in _CONTENT_ERRORS and not is_page
        )

    def _current_connections(self) -> _Connections:
        process_id = os.getpid()
        connections = self._connections.get(process_id)
        if connections is None:
            # After a fork, parent and child must not share a connection.
            for parent in [owner for owner in self._connections if owner != process_id]:
                self._connections.pop(parent, None)
            connections = self._connections.setdefault(process_id, self._open_connections())
        return connections

    def _open_connections(self) -> _Connections:
        options: dict[str, Any] = {"maxsize": _POOL_SIZE, "ssl_context": self._tls}
        if self._proxy is None:
            pools = urllib3.PoolManager(**options)
        else:
            authorization = {f"Proxy-{name}": value for name, value in _basic(self._proxy).items()}
            pools = urllib3.ProxyManager(
                self._proxy, proxy_headers=authorization, proxy_ssl_context=self._tls, **options
            )
        pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        if self._proxy is not None:
            return _Connections(pools, self._url, pools.clear)
        # The pool itself: the manager would parse the URL and look up the pool for each batch.
        return _Connections(pools.connection_from_url(self._url), parse_url(self._url).request_uri, pools.clear)


def sender_of(  # noqa: PLR0913 - the parts of a request
    config: NetworkConfig,
    url: str,
    *,
    product: str,
    method: str = "POST",
    headers: Mapping[str, str] = _NO_HEADERS,
    auth: Auth | HeadersFrom | None = None,
    secrets: Sequence[str] = (),
) -> HttpSender:
    """Return a sender to ``url`` with the transport of ``config``, whose headers override ``headers``.

    ``secrets`` are credentials in bodies, which are redacted in outcomes.

    Raises:
        ConfigError: The library of ``auth`` is not installed, or a certificate or a proxy cannot be used.
    """
    return HttpSender(
        url,
        product=product,
        method=method,
        headers=merged(headers, {name: value.get_secret_value() for name, value in config.headers.items()}),
        headers_from=config.headers_from or (auth if callable(auth) else headers_of(auth)),
        sign=None if callable(auth) else signer_of(auth, url),
        timeout=config.timeout,
        tls=Tls(config.ca_file, config.cert_file, config.key_file, config.verify),
        proxy=config.proxy,
        secrets=secrets,
    )


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds of ``Retry-After`` (a number or a date), from 0 to one hour; None if invalid."""
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
def _time_limit(timeout_s: float) -> Generator[None, None, None]:
    token = _deadline.set(time.monotonic() + timeout_s)
    try:
        yield
    finally:
        _deadline.reset(token)


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    body = response.read(MAX_RESPONSE_BYTES)
    if len(body) < MAX_RESPONSE_BYTES:
        response.release_conn()
    else:
        # The rest of the body is not read, so the connection cannot be reused.
        response.close()
    return body


def _is_page(body: bytes) -> bool:
    # By content: some frameworks send a plain "ok" as text/html.
    return body[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html", b"<!--"))


def _host_and_path(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + (parts.path or "/")


def _target(url: str, location: str) -> str:
    try:
        return _host_and_path(urljoin(url, location))
    except ValueError:
        return "an invalid URL"


def _cause(error: BaseException) -> str:
    # urllib3's messages quote the URL with its query, so the underlying error is shown.
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    if any(isinstance(link, (TimeoutError, urllib3.exceptions.TimeoutError)) for link in chain):
        return "no response in time"
    for link in reversed(chain):
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"TLS: {link.verify_message}"
        if isinstance(link, OSError):
            return link.strerror or str(link.args[0] if link.args else type(link).__name__)
    return f"the response was interrupted ({type(chain[-1]).__name__})"
