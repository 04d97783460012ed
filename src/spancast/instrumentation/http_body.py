"""Recording of streams from the bytes of an HTTP response body."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import wrapt

from spancast.diagnostics import never_raise
from spancast.dialects.error_body import FIRST_ERROR, refused_response
from spancast.instrumentation import sse
from spancast.instrumentation.stream_recorder import Arrived, StreamRecorder
from spancast.model import json_codec
from spancast.model.call import Response
from spancast.tracing.traced_call import TracedCall

Decode: TypeAlias = Callable[[bytes], bytes]
_CHECK_BYTES: Final = 8 << 20
"""Size of unparsed events at which they are parsed, so that a long stream does not fill the memory."""
_MAX_BYTES: Final = 64 << 20
"""Size at which a body that can only be parsed as a whole is dropped; its span names the problem."""


class ArrivedBody(Arrived):
    """The bytes of a body of server-sent events, for an SDK whose models drop fields.

    ``decode`` decodes the content encoding; None if the bytes are not compressed.
    """

    __slots__ = ("_next_check", "_size_bytes", "decode", "pieces")

    def __init__(self, traced_call: TracedCall, decode: Decode | None = None) -> None:
        super().__init__(traced_call)
        self.pieces: Final[list[bytes]] = []
        self._size_bytes = 0
        self._next_check = _CHECK_BYTES
        self.decode = decode

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that ignores chunks; the body is parsed instead."""
        return _ignore

    @property
    def unparsed_bytes(self) -> int | None:
        """Return the size of the bytes that are kept."""
        return sum(map(len, self.pieces))

    def add(self, piece: bytes) -> None:
        """Keep bytes that were read."""
        if self._size_bytes < _MAX_BYTES:
            self.pieces.append(piece)
            self._size_bytes += len(piece)
            if self._size_bytes > self._next_check:
                self._limit_memory()

    @never_raise
    def _limit_memory(self) -> None:
        """Parse the complete events of a long stream now; a body of another kind is dropped at the limit."""
        first = self.pieces[0]
        if self._reader is not None or (self.decode is None and sse.is_events(first) and not sse.is_aws(first)):
            body = b"".join(self.pieces)
            end = max(body.rfind(b"\n\n"), body.rfind(b"\n\r\n"))
            self._feed(sse.payloads(body[: end + 1], self._dialect)[0])
            self.pieces[:] = [body[end + 1 :]]
            self._size_bytes = len(self.pieces[0])
        elif self._size_bytes >= _MAX_BYTES:
            self.pieces.clear()
        self._next_check = self._size_bytes + _CHECK_BYTES

    def has_data(self, piece: bytes) -> bool:
        """Return whether ``piece`` has a part of the response, as comments have not."""
        return b"data:" in piece or sse.is_aws(piece) or self.decode is not None

    def body(self) -> bytes:
        """Return the bytes read so far, with the content encoding decoded."""
        raw = b"".join(self.pieces)
        return raw if self.decode is None else self.decode(raw)

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        self._feed(sse.payloads(self.body(), self._dialect)[0])
        return self.reader.result()

    def _feed(self, payloads: list[Any]) -> None:
        feed = super().feed
        for payload in payloads:
            feed(payload)


class ArrivedPieces(Arrived):
    """The pieces of a body of server-sent events, or its lines, as the SDK's stream gets them."""

    __slots__ = ("_pieces", "_separator")

    def __init__(self, traced_call: TracedCall, *, separator: bytes = b"") -> None:
        super().__init__(traced_call)
        self._pieces: Final[list[bytes]] = []
        self._separator: Final = separator

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that keeps a piece, bytes or text."""
        return self._keep

    def _keep(self, piece: object) -> None:
        self._pieces.append(piece if isinstance(piece, bytes) else str(piece).encode("utf-8", "replace"))

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        # SDKs stop reading at the end marker; such a response is complete.
        payloads, self.is_complete = sse.payloads(self._separator.join(self._pieces), self._dialect)
        for payload in payloads:
            super().feed(payload)
        return self.reader.result()


class ArrivedRawBody(ArrivedBody):
    """The bytes of a body that the user reads unparsed: server-sent events, JSON lines, or one JSON value.

    ``status`` is the HTTP status, if an error is a response here and no exception.
    """

    __slots__ = ("_read_response", "_status")

    def __init__(self, traced_call: TracedCall, decode: Decode | None = None, status: int = 0) -> None:
        super().__init__(traced_call, decode)
        read_response = self._dialect.read_response
        self._read_response: Final = functools.partial(read_response, content=traced_call.captures_content)
        self._status = status

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        body = self.body()
        self.is_stream = self._reader is not None or sse.is_events(body)
        if self._status >= FIRST_ERROR:
            self.is_stream = False
            return refused_response(self._status, json_codec.decode(body))
        if self.is_stream:
            # SDKs close the body after its end marker; such a response is complete.
            payloads, self.is_complete = sse.payloads(body, self._dialect)
        else:
            answer = json_codec.decode(body)
            payloads = [] if answer is not None else sse.json_lines(body)
            self.is_complete = answer is not None
            if not payloads:
                return Response() if answer is None else self._read_response(answer)
            self.is_stream = True
        self._feed(payloads)
        return self.reader.result()


class BodyStreamRecorder(StreamRecorder):
    """A recorder of a body, which keeps the bytes that are read."""

    __slots__ = ("_has_data", "body", "is_left")

    def __init__(self, traced_call: TracedCall, body: ArrivedBody, *, hides_usage_chunk: bool = False) -> None:
        super().__init__(traced_call, body, hides_usage_chunk=hides_usage_chunk)
        self.body: Final = body
        self._has_data = False
        self.is_left = False
        """Whether the caller has left an iteration, after which the library reads no more."""

    def keep(self, piece: bytes) -> None:
        """Keep bytes that the caller has read, or is about to get."""
        if self.has_ended:
            return
        self.body.add(piece)
        if not self._has_data and self.body.has_data(piece):
            self._has_data = True
            self.traced_call.chunk_arrived()


if TYPE_CHECKING:
    Proxy: TypeAlias = wrapt.ObjectProxy[Any]
else:
    # Not subscriptable at run time in every supported version.
    Proxy = wrapt.ObjectProxy


class BodyCloseObserver(Proxy):
    """A proxy of the byte stream of an HTTP response that reports its closing to a ``StreamRecorder``.

    ``isinstance`` sees the class of the wrapped stream, as httpx requires.
    """

    def __init__(self, stream: Any, recorder: StreamRecorder) -> None:  # noqa: ANN401 - a byte stream of httpx or httpx2
        super().__init__(stream)
        self._self_recorder = recorder

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.__wrapped__)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self.__wrapped__)

    def close(self) -> None:
        """Close the wrapped stream; an early end unless the SDK's iterator does it."""
        try:
            self.__wrapped__.close()
        finally:
            self._self_closed()

    async def aclose(self) -> None:
        """Close the wrapped asynchronous stream as ``close`` does."""
        try:
            await self.__wrapped__.aclose()
        finally:
            self._self_closed()

    def _self_closed(self) -> None:
        if not self._self_recorder.sdk_is_reading:
            self._self_recorder.closed()


Over: TypeAlias = Callable[[BaseException | None], None]
"""Called at the end of an iteration, with its exception if it failed; not if the reader has left it."""


class _Iteration:
    """Calls ``over`` at the end of the block; unlike ``contextmanager``, it adds no frame to the caller's exception."""

    __slots__ = ("_over",)

    def __init__(self, over: Over) -> None:
        self._over = over

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not isinstance(error, GeneratorExit):
            self._over(error)


def kept(pieces: Iterable[bytes], recorder: BodyStreamRecorder, over: Over) -> Iterator[bytes]:
    """Yield the pieces of a body, and keep them in ``recorder``."""
    with _Iteration(over):
        for piece in pieces:
            recorder.keep(piece)
            yield piece


async def kept_async(pieces: AsyncIterable[bytes], recorder: BodyStreamRecorder, over: Over) -> AsyncIterator[bytes]:
    """Yield the pieces of an asynchronous body as ``kept`` does."""
    with _Iteration(over):
        async for piece in pieces:
            recorder.keep(piece)
            yield piece


class BodyRecorder(BodyCloseObserver):
    """A proxy of a byte stream that keeps its content and reports its end."""

    _self_recorder: BodyStreamRecorder

    def __iter__(self) -> Iterator[bytes]:
        return kept(self.__wrapped__, self._self_recorder, self._self_over)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return kept_async(self.__wrapped__, self._self_recorder, self._self_over)

    def _self_over(self, error: BaseException | None) -> None:
        self._self_recorder.end(error=error)

    @property
    def recorder(self) -> BodyStreamRecorder:
        """Return the recorder of the body."""
        return self._self_recorder


class BodyCapture(BodyRecorder):
    """A ``BodyRecorder`` that does not report the end; the wrapper of the SDK's iterator does."""

    def _self_over(self, error: BaseException | None) -> None:  # noqa: ARG002 - the parent's signature
        return


def record_body(traced_call: TracedCall, response: Any) -> StreamRecorder:  # noqa: ANN401 - a response of httpx or httpx2
    """Return a recorder of a stream that parses the bytes of ``response`` instead of the SDK's chunks.

    For SDKs whose models drop fields.
    """
    recorder = BodyStreamRecorder(traced_call, ArrivedBody(traced_call, _decoder(response)))
    response.stream = BodyCapture(response.stream, recorder)
    return recorder


def record_json_body(traced_call: TracedCall, response: Any, *, hides_usage_chunk: bool) -> StreamRecorder | None:  # noqa: ANN401 - a response of httpx or httpx2
    """Return a recorder of a stream that the server answers as JSON, by its content type; None for any other.

    The SDK makes no events of a whole answer, and none of an error. It may be a stream nevertheless.
    """
    headers = getattr(response, "headers", None)
    if headers is None or "json" not in headers.get("content-type", ""):
        return None
    arrived = ArrivedRawBody(traced_call, _decoder(response))
    recorder = BodyStreamRecorder(traced_call, arrived, hides_usage_chunk=hides_usage_chunk)
    response.stream = BodyCapture(response.stream, recorder)
    return recorder


def record_raw_body(traced_call: TracedCall, response: Any, status: int = 0) -> None:  # noqa: ANN401 - a response of httpx or httpx2
    """Record a response whose body the user reads unparsed; ``status`` as in ``ArrivedRawBody``."""
    arrived = ArrivedRawBody(traced_call, _decoder(response), status)
    response.stream = BodyRecorder(response.stream, BodyStreamRecorder(traced_call, arrived))


def record_whole_body(traced_call: TracedCall, body: bytes, status: int) -> None:
    """Record the complete ``body``, decoded, of a response with any HTTP ``status``."""
    arrived = ArrivedRawBody(traced_call, status=status)
    # Without the limit: the caller holds the same object.
    arrived.pieces.append(body)
    StreamRecorder(traced_call, arrived).end()


def whole_body(response: Any) -> bytes | None:  # noqa: ANN401 - a response of httpx or httpx2
    """Return the body of a successful response that has been read completely; None otherwise."""
    # The response may be a test double without these attributes.
    if not (getattr(response, "is_closed", False) and getattr(response, "is_success", False)):
        return None
    try:
        return bytes(response.content)
    except RuntimeError:
        # The response was closed before it was read.
        return None


def _ignore(_chunk: object) -> None:
    return


def _decoder(response: Any) -> Decode | None:  # noqa: ANN401 - a response of httpx or httpx2
    """Return a function that decodes the raw bytes of ``response``; None if they are not compressed."""
    if "content-encoding" not in response.headers:
        return None
    return functools.partial(_decoded, type(response), response.headers)


def _decoded(response_class: Any, headers: Any, raw: bytes) -> bytes:  # noqa: ANN401 - httpx or httpx2
    try:
        return bytes(response_class(200, headers=headers, content=raw).content)
    except (ValueError, RuntimeError, OSError):
        # A truncated body may end inside a compressed block; its content is then unknown.
        return b""
