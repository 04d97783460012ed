"""A provider to test against: the wire formats of all dialects on a real loopback socket.

Real SDKs talk to it as to the real thing: keep-alive, chunked server-sent events, errors, cut connections.
Must never: reach out of the machine, or sleep where an event can be waited for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import socket
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, final
from urllib.parse import urlsplit

import orjson

from spancast.dialects.accessors import fields
from spancast.testing.answers import canned_answer, error_body

KEEP_ALIVE = ": OPENROUTER PROCESSING"
"""The comment line OpenRouter sends while a provider is thinking."""

# How often a reply held by the caller's event looks whether the server was closed.
_GATE_POLL_S = 0.01
# SO_LINGER on, zero seconds: close() sends a reset instead of an orderly end.
_LINGER_RESET = struct.pack("ii", 1, 0)
_GZIP_WBITS = 31
_JSON_TYPE = {"content-type": "application/json"}
_SSE_TYPE = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Headers(Mapping[str, str]):
    """HTTP headers; names are case-insensitive, repeated ones are joined by a comma."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            former = self._values.get(name.lower())
            self._values[name.lower()] = value if former is None else f"{former}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({self._values!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came over the socket; ``body`` is the parsed JSON, None where it is none."""

    method: str
    path: str
    query: str
    headers: Headers
    body: Any
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of a body, sent together ``wait_s`` seconds after the piece before, and not before ``gate`` is set."""

    data: bytes
    wait_s: float = 0.0
    gate: threading.Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the server does with one request; made by the methods below, usable any number of times.

    ``delay_s`` is the time in seconds from the request to the first byte.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0
    gate: threading.Event | None = None
    pieces: tuple[_Piece, ...] = ()
    framing: Literal["length", "chunked", "raw", "canned"] = "canned"
    """``raw``: the pieces are the whole response. ``canned``: the server makes the body."""
    ending: Literal["keep", "cut", "reset"] = "keep"
    """Of the connection: kept for the next request, ended in order, or reset."""

    def held_by(self, gate: threading.Event) -> Reply:
        """Return this reply, its first byte held back until ``gate`` is set."""
        return dataclasses.replace(self, gate=gate)

    @classmethod
    def json(
        cls,
        body: object,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        delay_s: float = 0.0,
    ) -> Reply:
        """Answer ``body`` as JSON."""
        piece = _Piece(orjson.dumps(body))
        merged = {**_JSON_TYPE, **(headers or {})}
        return cls(status=status, headers=merged, delay_s=delay_s, pieces=(piece,), framing="length")

    @classmethod
    def stream(  # noqa: PLR0913 - one parameter per thing that goes differently on real wires
        cls,
        events: Iterable[Mapping[str, Any] | str],
        *,
        gap_s: float = 0.0,
        first_gap_s: float = 0.0,
        gates: Mapping[int, threading.Event] | None = None,
        comments: Sequence[str] = (),
        done: bool = True,
        crlf: bool = False,
        gzip: bool = False,
        cut_after: int | None = None,
        reset: bool = False,
        headers: Mapping[str, str] | None = None,
        delay_s: float = 0.0,
    ) -> Reply:
        """Answer ``events`` as server-sent events, each in a packet of its own.

        Args:
            events: JSON objects; one with a ``type`` is preceded by an ``event:`` line. A string is data as it is.
            gap_s: Seconds between two events.
            first_gap_s: Seconds between the headers (and first comments) and the first event.
            gates: ``{2: event}`` holds ``events[2]`` back until the event is set; the index after the last event
                holds ``[DONE]``, or the cut.
            comments: Lines such as ``KEEP_ALIVE``, sent before each event, ahead of its gap.
            done: Whether to end with ``[DONE]``; typed events (Responses, Messages) never do.
            crlf: Whether lines end in CRLF.
            gzip: Whether to compress the body, flushed after each event.
            cut_after: Send so many events, then end the connection within the unfinished body.
            reset: Whether that end is a TCP reset. It may overtake events the client has not read; a gate at
                ``cut_after`` prevents that.
            headers: Further response headers.
            delay_s: Seconds before the response headers.
        """
        events = list(events)
        frames = [_frame(event) for event in events[:cut_after]]
        comment_lines = "".join(f"{line}\n\n" for line in comments)
        pieces: list[_Piece] = []
        for index, frame in enumerate(frames):
            pieces += [_Piece(comment_lines.encode())] if comments else []
            gap = gap_s if index else first_gap_s
            pieces.append(_Piece(frame, gap, (gates or {}).get(index)))
        typed = any(isinstance(event, Mapping) and "type" in event for event in events)
        end = b"data: [DONE]\n\n" if done and not typed and cut_after is None else b""
        pieces.append(_Piece(end, 0.0, (gates or {}).get(len(frames))))
        if crlf:
            pieces = [dataclasses.replace(piece, data=piece.data.replace(b"\n", b"\r\n")) for piece in pieces]
        if gzip:
            pieces = list(_gzipped(pieces))
        encoding = {"content-encoding": "gzip"} if gzip else {}
        return cls(
            headers={**_SSE_TYPE, **encoding, **(headers or {})},
            delay_s=delay_s,
            pieces=tuple(pieces),
            framing="chunked",
            ending="keep" if cut_after is None else "reset" if reset else "cut",
        )

    @classmethod
    def sse(
        cls,
        body: bytes,
        *,
        piece_bytes: int | None = None,
        gap_s: float = 0.0,
        cut: bool = False,
        delay_s: float = 0.0,
    ) -> Reply:
        """Answer ``body`` (an ``.sse`` sample) byte for byte.

        It goes in packets of ``piece_bytes`` (default: all in one), ``gap_s`` seconds apart; with ``cut`` the
        connection then ends within the unfinished body.
        """
        size = piece_bytes or max(1, len(body))
        parts = (body[start : start + size] for start in range(0, len(body), size))
        pieces = tuple(_Piece(part, gap_s if index else 0.0) for index, part in enumerate(parts))
        return cls(
            headers=_SSE_TYPE, delay_s=delay_s, pieces=pieces, framing="chunked", ending="cut" if cut else "keep"
        )

    @classmethod
    def error(
        cls,
        status: int,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        delay_s: float = 0.0,
    ) -> Reply:
        """Answer an error; without ``body`` the canned one for ``status`` in the envelope of the path's provider."""
        if body is not None:
            return cls.json(body, status=status, headers=headers, delay_s=delay_s)
        return cls(status=status, headers=headers or {}, delay_s=delay_s)

    @classmethod
    def raw(cls, response: bytes, *, delay_s: float = 0.0) -> Reply:
        """Answer the bytes of a whole HTTP response (an ``.http`` sample) as they are, then end the connection."""
        return cls(delay_s=delay_s, pieces=(_Piece(response),), framing="raw", ending="cut")

    @classmethod
    def drop(cls, *, delay_s: float = 0.0) -> Reply:
        """End the connection without an answer."""
        return cls.raw(b"", delay_s=delay_s)

    @classmethod
    def hang(cls, seconds: float) -> Reply:
        """Answer as with an empty script, but only after ``seconds``; closing the server ends the wait."""
        return cls(delay_s=seconds)


def _frame(event: Mapping[str, Any] | str) -> bytes:
    if isinstance(event, str):
        return b"data: " + event.replace("\n", "\ndata: ").encode() + b"\n\n"
    name = f"event: {event['type']}\n".encode() if "type" in event else b""
    return name + b"data: " + orjson.dumps(event) + b"\n\n"


def _gzipped(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    compressor = zlib.compressobj(wbits=_GZIP_WBITS)
    for piece in pieces:
        data = compressor.compress(piece.data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        yield dataclasses.replace(piece, data=data)
    yield _Piece(compressor.flush())


@final
class ReplayServer:
    """A scripted provider on ``127.0.0.1``; thread-safe, serves as many connections at once as come.

    Replies come from the script of the request's endpoint, else from the script for every path, first in first
    out. With both empty it answers by itself: an echo of the last user message in the endpoint's format,
    streamed where asked, 404 elsewhere. SDKs retry: one call may use up several replies.

    Attributes:
        openrouter: Whether own answers are OpenRouter's: cost, provider, ``X-Generation-Id``, keep-alive
            comments, usage in every stream, its error envelope.
    """

    def __init__(self, *, openrouter: bool = False, port: int = 0) -> None:
        """Take the settings; ``port`` 0 is any free port. Nothing listens before ``start()``."""
        self.openrouter = openrouter
        self._port = port
        self._scripts: dict[str, deque[Reply]] = {}
        self._requests: list[Received] = []
        self._serial = itertools.count(1)
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None
        self._conversations: list[_Conversation] = []

    def __enter__(self) -> ReplayServer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``: the ``base_url`` for anthropic. Stays the same after ``close()``."""
        if not self._port:
            msg = "the replay server has no port yet: start() it, or use it in a with block"
            raise RuntimeError(msg)
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        """``url`` with ``/v1``: the ``base_url`` for openai and openrouter."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> list[Received]:
        """Every request so far, in order of arrival; a copy."""
        with self._changed:
            return list(self._requests)

    def wait_for_requests(self, count: int, *, timeout_s: float = 10.0) -> list[Received]:
        """Return the requests once there are ``count``; raises TimeoutError where they do not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._requests) >= count, timeout_s):
                msg = f"{len(self._requests)} of {count} requests arrived within {timeout_s} s"
                raise TimeoutError(msg)
            return list(self._requests)

    def reply(self, first: str | Reply, *more: Reply) -> None:
        """Append replies to the script for every path, or of the endpoint whose path ends with ``first``."""
        suffix, replies = (first, more) if isinstance(first, str) else ("", (first, *more))
        with self._changed:
            self._scripts.setdefault(suffix, deque()).extend(replies)

    def start(self) -> ReplayServer:
        """Listen, after ``close()`` on the same port again. Raises OSError where the port is taken."""
        if self._acceptor is not None:
            msg = "the replay server is running"
            raise RuntimeError(msg)
        listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._port = listener.getsockname()[1]
        self._stopping.clear()
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), name="replay-accept", daemon=True)
        self._acceptor.start()
        return self

    def close(self) -> None:
        """End every connection, also within an answer, and return when no thread or socket is left; idempotent."""
        if self._acceptor is None:
            return
        self._stopping.set()
        # Only a connection wakes accept() on every platform; refused means that it has woken by itself.
        with contextlib.suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", self._port)).close()
        self._acceptor.join()
        self._acceptor = None
        for conversation in self._conversations:
            conversation.end()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self._stopping.is_set():
                with contextlib.suppress(ConnectionAbortedError):
                    connection, _ = listener.accept()
                    self._conversations = [former for former in self._conversations if former.is_alive()]
                    self._conversations.append(_Conversation(connection, self._stopping, self._take))

    def _take(self, received: Received) -> Reply:
        with self._changed:
            self._requests.append(received)
            self._changed.notify_all()
            reply = self._next_scripted(received.path)
        return self._canned(reply, received) if reply.framing == "canned" else reply

    def _next_scripted(self, path: str) -> Reply:
        # The empty suffix, the script for every path, comes last.
        for suffix in sorted(self._scripts, key=len, reverse=True):
            if path.endswith(suffix) and self._scripts[suffix]:
                return self._scripts[suffix].popleft()
        return Reply()

    def _canned(self, ordered: Reply, received: Received) -> Reply:
        serial = next(self._serial)
        made = self._canned_answer(received, serial) if ordered.status == http.client.OK else None
        if made is None:
            status = ordered.status if ordered.status != http.client.OK else http.client.NOT_FOUND
            made = Reply.json(error_body(status, received.path, openrouter=self.openrouter), status=status)
        headers = {"request-id": f"req_{serial}", "x-request-id": f"req_{serial}", **made.headers, **ordered.headers}
        return dataclasses.replace(made, headers=headers, delay_s=ordered.delay_s, gate=ordered.gate)

    def _canned_answer(self, received: Received, serial: int) -> Reply | None:
        body = fields(received.body)
        canned = canned_answer(received.path, body, serial=serial, openrouter=self.openrouter) if body else None
        if canned is None:
            return None
        headers = {"x-generation-id": canned.answer["id"]} if self.openrouter else {}
        if canned.events is None:
            return Reply.json(canned.answer, headers=headers)
        comments = (KEEP_ALIVE,) if self.openrouter else ()
        return Reply.stream(canned.events, headers=headers, comments=comments, done=canned.done)


class _Conversation:
    """One connection and its thread: requests in, replies out, until either side ends it."""

    def __init__(self, connection: socket.socket, stopping: threading.Event, take: Callable[[Received], Reply]) -> None:
        self._connection = connection
        self._stopping = stopping
        self._take = take
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="replay-connection", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Tell whether the connection is still being served."""
        return self._thread.is_alive()

    def end(self) -> None:
        """Wake the thread from whatever it waits for and return when it is gone."""
        with self._closing, contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        # OSError: the client went away, or the server is being closed; both just end the conversation.
        try:
            with contextlib.suppress(OSError), self._connection.makefile("rb") as file:
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._converse(file)
        finally:
            with self._closing:
                self._connection.close()

    def _converse(self, file: BinaryIO) -> None:
        while (received := _read_request(file)) is not None:
            reply = self._take(received)
            self._send(reply)
            if reply.ending != "keep" or received.headers.get("connection", "").lower() == "close":
                return

    def _send(self, reply: Reply) -> None:
        self._wait(reply.delay_s, reply.gate)
        send = self._connection.sendall
        if reply.framing == "length":
            body = b"".join(piece.data for piece in reply.pieces)
            send(_head(reply, f"content-length: {len(body)}") + body)
            return
        chunked = reply.framing == "chunked"
        if chunked:
            send(_head(reply, "transfer-encoding: chunked"))
        for piece in reply.pieces:
            self._wait(piece.wait_s, piece.gate)
            # An empty chunk would end the body.
            if piece.data:
                send(b"%x\r\n%b\r\n" % (len(piece.data), piece.data) if chunked else piece.data)
        if reply.ending == "reset":
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        elif chunked and reply.ending == "keep":
            send(b"0\r\n\r\n")

    def _wait(self, seconds: float, gate: threading.Event | None) -> None:
        stopped = self._stopping.wait(seconds)
        while not stopped and gate is not None and not gate.wait(_GATE_POLL_S):
            stopped = self._stopping.is_set()
        if stopped:
            raise ConnectionAbortedError


def _read_request(file: BinaryIO) -> Received | None:
    """Return the next request, or None at the end of the connection or where it is not HTTP/1.1 with a length."""
    try:
        method, target, _ = file.readline(65_537).decode("latin-1").split()
        headers = Headers(http.client.parse_headers(file).items())
        length = int(headers.get("content-length", "0"))
    except (ValueError, http.client.HTTPException):
        return None
    raw = file.read(length)
    if len(raw) < length:
        return None
    url = urlsplit(target)
    return Received(method=method, path=url.path, query=url.query, headers=headers, body=_parsed(raw), raw=raw)


def _parsed(raw: bytes) -> Any:  # noqa: ANN401 - JSON has any shape
    try:
        return orjson.loads(raw)
    except ValueError:
        return None


def _head(reply: Reply, framing: str) -> bytes:
    status = f"HTTP/1.1 {reply.status} {http.client.responses.get(reply.status, 'Error')}"
    headers = (f"{name}: {value}" for name, value in reply.headers.items())
    return ("\r\n".join([status, *headers, framing]) + "\r\n\r\n").encode("latin-1")
