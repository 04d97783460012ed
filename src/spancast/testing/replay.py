"""A replay server for tests: the wire formats of all dialects on a loopback socket.

Real SDKs connect to it as to a provider: keep-alive, chunked server-sent events, errors, interrupted connections.
It opens no connection to another machine.
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
from spancast.testing.event_stream import AwsFraming, encode_event

KEEP_ALIVE = ": OPENROUTER PROCESSING"
"""The comment line that OpenRouter sends while it waits for a provider."""

# Interval in which a reply that waits for a gate checks for close().
_GATE_POLL_S = 0.01
# SO_LINGER on, zero seconds: close() sends a TCP reset.
_LINGER_RESET = struct.pack("ii", 1, 0)
_GZIP_WBITS = 31
_JSON_TYPE = {"content-type": "application/json"}
_AWS_TYPE = {"content-type": "application/vnd.amazon.eventstream"}
_SSE_TYPE = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
_NDJSON_TYPE = {"content-type": "application/x-ndjson"}


class Headers(Mapping[str, str]):
    """HTTP headers; names are case-insensitive, repeated ones are joined with a comma."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            previous = self._values.get(name.lower())
            self._values[name.lower()] = value if previous is None else f"{previous}, {value}"

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
    """One received request; ``body`` is the parsed JSON, None if it is not JSON."""

    method: str
    path: str
    query: str
    headers: Headers
    body: Any
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of a body, sent together ``wait_s`` seconds after the previous piece and after ``gate`` is set."""

    data: bytes
    wait_s: float = 0.0
    gate: threading.Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The server's reply to one request; created by the class methods, reusable.

    ``delay_s`` is the time in seconds from the request to the first byte.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0
    gate: threading.Event | None = None
    pieces: tuple[_Piece, ...] = ()
    framing: Literal["length", "chunked", "raw", "canned"] = "canned"
    """``raw``: the pieces are the complete response. ``canned``: the server generates the body."""
    ending: Literal["keep", "cut", "reset"] = "keep"
    """State of the connection after the reply: kept open, closed, or reset."""

    def held_by(self, gate: threading.Event) -> Reply:
        """Return a copy of this reply that waits until ``gate`` is set before its first byte."""
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
        """Return a reply with ``body`` as JSON."""
        piece = _Piece(orjson.dumps(body))
        all_headers = {**_JSON_TYPE, **(headers or {})}
        return cls(status=status, headers=all_headers, delay_s=delay_s, pieces=(piece,), framing="length")

    @classmethod
    def stream(  # noqa: PLR0913 - one parameter per property of a stream
        cls,
        events: Iterable[Mapping[str, Any] | str],
        *,
        gap_s: float = 0.0,
        first_gap_s: float = 0.0,
        gates: Mapping[int, threading.Event] | None = None,
        comments: Sequence[str] = (),
        done: bool = True,
        ndjson: bool = False,
        crlf: bool = False,
        gzip: bool = False,
        cut_after: int | None = None,
        reset: bool = False,
        headers: Mapping[str, str] | None = None,
        delay_s: float = 0.0,
        aws: AwsFraming = "",
    ) -> Reply:
        """Return a reply with ``events`` as server-sent events, each in its own packet.

        Args:
            events: JSON objects; one with a ``type`` is preceded by an ``event:`` line. A string is sent unchanged.
            gap_s: Seconds between two events.
            first_gap_s: Seconds between the headers (and first comments) and the first event.
            gates: ``{2: event}`` delays ``events[2]`` until the event is set; the index after the last event
                delays ``[DONE]`` or the end of the connection.
            comments: Lines such as ``KEEP_ALIVE``, sent before the gap of each event.
            done: Whether to end with ``[DONE]``; typed events (Responses, Messages) never do.
            ndjson: Whether to send a line of JSON per event instead of server-sent events (Ollama).
            crlf: Whether lines end in CRLF.
            gzip: Whether to compress the body, flushed after each event.
            cut_after: Number of events after which the connection ends within the body.
            reset: Whether that end is a TCP reset, which may discard events that the client has not read; a gate at
                ``cut_after`` prevents that.
            headers: Additional response headers.
            delay_s: Seconds before the response headers.
            aws: The form of ``events`` in an event stream of AWS, which is sent instead.
        """
        events = list(events)
        frames = [orjson.dumps(event) + b"\n" if ndjson else _frame(event, aws) for event in events[:cut_after]]
        comment_lines = "".join(f"{line}\n\n" for line in comments)
        pieces: list[_Piece] = []
        for index, frame in enumerate(frames):
            pieces += [_Piece(comment_lines.encode())] if comments else []
            gap = gap_s if index else first_gap_s
            pieces.append(_Piece(frame, gap, (gates or {}).get(index)))
        typed = any(isinstance(event, Mapping) and "type" in event for event in events)
        is_closed = done and not (typed or ndjson or aws) and cut_after is None
        end = b"data: [DONE]\n\n" if is_closed else b""
        pieces.append(_Piece(end, 0.0, (gates or {}).get(len(frames))))
        if crlf:
            pieces = [dataclasses.replace(piece, data=piece.data.replace(b"\n", b"\r\n")) for piece in pieces]
        if gzip:
            pieces = list(_gzip(pieces))
        encoding = {"content-encoding": "gzip"} if gzip else {}
        return cls(
            headers={**(_AWS_TYPE if aws else _NDJSON_TYPE if ndjson else _SSE_TYPE), **encoding, **(headers or {})},
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
        """Return a reply with ``body`` (an ``.sse`` sample) unchanged.

        It is sent in packets of ``piece_bytes`` (default: one packet), ``gap_s`` seconds apart. With ``cut``, the
        connection then ends within the body.
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
        """Return an error reply; default ``body``: an error for ``status`` in the format of the path's provider."""
        if body is not None:
            return cls.json(body, status=status, headers=headers, delay_s=delay_s)
        return cls(status=status, headers=headers or {}, delay_s=delay_s)

    @classmethod
    def raw(cls, response: bytes, *, delay_s: float = 0.0) -> Reply:
        """Return a reply with the bytes of a complete HTTP response (an ``.http`` sample), then close."""
        return cls(delay_s=delay_s, pieces=(_Piece(response),), framing="raw", ending="cut")

    @classmethod
    def drop(cls, *, delay_s: float = 0.0) -> Reply:
        """Return a reply that closes the connection without a response."""
        return cls.raw(b"", delay_s=delay_s)

    @classmethod
    def hang(cls, seconds: float) -> Reply:
        """Return the default reply, delayed by ``seconds``; closing the server ends the wait."""
        return cls(delay_s=seconds)


def _frame(event: Mapping[str, Any] | str, aws: AwsFraming) -> bytes:
    if aws and not isinstance(event, str):
        return encode_event(event, aws)
    if isinstance(event, str):
        return b"data: " + event.replace("\n", "\ndata: ").encode() + b"\n\n"
    name = f"event: {event['type']}\n".encode() if "type" in event else b""
    return name + b"data: " + orjson.dumps(event) + b"\n\n"


def _gzip(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    compressor = zlib.compressobj(wbits=_GZIP_WBITS)
    for piece in pieces:
        data = compressor.compress(piece.data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        yield dataclasses.replace(piece, data=data)
    yield _Piece(compressor.flush())


@final
class ReplayServer:
    """A scripted provider on ``127.0.0.1``; thread-safe, with any number of parallel connections.

    Replies are taken from the script of the request's endpoint, else from the script for every path, first in
    first out. The default reply echoes the last user message in the endpoint's format, streamed if requested;
    an unknown path gives 404. SDKs retry, so one call may use several replies.

    Attributes:
        openrouter: Whether default replies are OpenRouter's: cost, provider, ``X-Generation-Id``, keep-alive
            comments, usage in every stream, its error format.
    """

    def __init__(self, *, openrouter: bool = False, port: int = 0) -> None:
        """Create a server; ``port`` 0 means any free port. ``start()`` opens the port."""
        self.openrouter = openrouter
        self._port = port
        self._scripts: dict[str, deque[Reply]] = {}
        self._requests: list[Received] = []
        self._serial = itertools.count(1)
        # Not the condition is entered: Ctrl-C inside its methods, which are Python, could leave it locked.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None
        self._connections: list[_Connection] = []

    def __enter__(self) -> ReplayServer:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``: the ``base_url`` for anthropic. Unchanged after ``close()``."""
        if not self._port:
            msg = "the replay server is not started: call start() or use a with block"
            raise RuntimeError(msg)
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        """``url`` with ``/v1``: the ``base_url`` for openai and openrouter."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> list[Received]:
        """A copy of all requests in order of arrival."""
        with self._lock:
            return list(self._requests)

    def wait_for_requests(self, count: int, *, timeout_s: float = 60.0) -> list[Received]:
        """Wait for ``count`` requests and return all; raise TimeoutError after ``timeout_s``."""
        with self._lock:
            if not self._changed.wait_for(lambda: len(self._requests) >= count, timeout_s):
                msg = f"{len(self._requests)} of {count} requests arrived within {timeout_s} s"
                raise TimeoutError(msg)
            return list(self._requests)

    def reply(self, first: str | Reply, *more: Reply) -> None:
        """Append replies to the script for every path, or for paths that end with ``first`` if it is a string."""
        suffix, replies = (first, more) if isinstance(first, str) else ("", (first, *more))
        with self._lock:
            self._scripts.setdefault(suffix, deque()).extend(replies)

    def start(self) -> ReplayServer:
        """Start listening, after ``close()`` on the same port. Raise OSError if the port is in use."""
        if self._acceptor is not None:
            msg = "the replay server is already running"
            raise RuntimeError(msg)
        listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._port = listener.getsockname()[1]
        self._stopping.clear()
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), name="replay-accept", daemon=True)
        self._acceptor.start()
        return self

    def close(self) -> None:
        """Close every connection, also during a reply, and wait until all threads have ended; idempotent."""
        if self._acceptor is None:
            return
        self._stopping.set()
        # Only a connection wakes accept() on every platform; if refused, accept() has already returned.
        with contextlib.suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", self._port)).close()
        self._acceptor.join()
        self._acceptor = None
        for connection in self._connections:
            connection.end()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self._stopping.is_set():
                with contextlib.suppress(ConnectionAbortedError):
                    connection, _ = listener.accept()
                    self._connections = [previous for previous in self._connections if previous.is_alive()]
                    self._connections.append(_Connection(connection, self._stopping, self._handle))

    def _handle(self, received: Received) -> Reply:
        with self._lock:
            self._requests.append(received)
            self._changed.notify_all()
            reply = self._next_scripted(received.path)
        return self._canned(reply, received) if reply.framing == "canned" else reply

    def _next_scripted(self, path: str) -> Reply:
        # The empty suffix (the script for every path) is last.
        for suffix in sorted(self._scripts, key=len, reverse=True):
            if path.endswith(suffix) and self._scripts[suffix]:
                return self._scripts[suffix].popleft()
        return Reply()

    def _canned(self, scripted: Reply, received: Received) -> Reply:
        serial = next(self._serial)
        default = self._canned_answer(received, serial) if scripted.status == http.client.OK else None
        if default is None:
            status = scripted.status if scripted.status != http.client.OK else http.client.NOT_FOUND
            default = Reply.json(error_body(status, received.path, openrouter=self.openrouter), status=status)
        headers = {
            "request-id": f"req_{serial}",
            "x-request-id": f"req_{serial}",
            **default.headers,
            **scripted.headers,
        }
        return dataclasses.replace(default, headers=headers, delay_s=scripted.delay_s, gate=scripted.gate)

    def _canned_answer(self, received: Received, serial: int) -> Reply | None:
        body = fields(received.body)
        canned = canned_answer(received.path, body, serial=serial, openrouter=self.openrouter) if body else None
        if canned is None:
            return None
        headers = {"x-generation-id": canned.answer["id"]} if self.openrouter and "id" in canned.answer else {}
        if canned.aws:
            headers = {"x-amzn-requestid": f"req_{serial}"}
        if canned.events is None:
            return Reply.json(canned.answer, headers=headers)
        comments = (KEEP_ALIVE,) if self.openrouter else ()
        return Reply.stream(
            canned.events,
            headers=headers,
            comments=comments,
            done=canned.done,
            aws=canned.aws,
            ndjson=canned.ndjson,
        )


class _Connection:
    """One connection and its thread, which replies to requests until either side closes."""

    def __init__(
        self, connection: socket.socket, stopping: threading.Event, handle: Callable[[Received], Reply]
    ) -> None:
        self._connection = connection
        self._stopping = stopping
        self._handle = handle
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="replay-connection", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the connection is still served."""
        return self._thread.is_alive()

    def end(self) -> None:
        """Close the connection and wait for the thread to end."""
        with self._closing, contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        # OSError: the client disconnected or the server is closing; both end the connection.
        try:
            with contextlib.suppress(OSError), self._connection.makefile("rb") as file:
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve(file)
        finally:
            with self._closing:
                self._connection.close()

    def _serve(self, file: BinaryIO) -> None:
        while (received := _read_request(file)) is not None:
            reply = self._handle(received)
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
    """Return the next request, or None at the end of the connection or if it is not HTTP/1.1 with a length."""
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
