"""Recording of streams from the bytes of an HTTP response body."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import wrapt

from spancast.instrumentation import sse
from spancast.instrumentation.stream_recorder import Arrived, StreamRecorder
from spancast.model import json_codec
from spancast.model.call import Response
from spancast.tracing.traced_call import TracedCall


class ArrivedBody(Arrived):
    """The bytes of a body of server-sent events, for an SDK whose models drop fields."""

    __slots__ = ("_headers", "_response_class", "pieces")

    def __init__(self, traced_call: TracedCall, response: Any) -> None:  # noqa: ANN401 - a response of httpx or httpx2
        super().__init__(traced_call)
        self.pieces: Final[list[bytes]] = []
        self._headers: Any = response.headers
        self._response_class: Any = type(response)

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that ignores chunks; the body is parsed instead."""
        return _ignore

    @property
    def is_encoded(self) -> bool:
        """Return whether the bytes are compressed."""
        return "content-encoding" in self._headers

    def body(self) -> bytes:
        """Return the bytes read so far, with the content encoding decoded."""
        raw = b"".join(self.pieces)
        return _decoded(self._response_class, self._headers, raw) if self.is_encoded else raw

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        return self._assemble(sse.payloads(self.body(), self._dialect)[0])

    def _assemble(self, payloads: list[Any]) -> Response:
        feed = super().feed
        for payload in payloads:
            feed(payload)
        return self.reader.result()


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
    """The bytes of a body that the user reads unparsed: server-sent events, or one JSON value."""

    __slots__ = ("_read_response",)

    def __init__(self, traced_call: TracedCall, response: Any) -> None:  # noqa: ANN401 - a response of httpx or httpx2
        super().__init__(traced_call, response)
        read_response = self._dialect.read_response
        self._read_response: Final = functools.partial(read_response, content=traced_call.captures_content)

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        body = self.body()
        self.is_stream = sse.is_events(body)
        if self.is_stream:
            # SDKs close the body after its end marker; such a response is complete.
            payloads, self.is_complete = sse.payloads(body, self._dialect)
            return self._assemble(payloads)
        answer = json_codec.decode(body)
        self.is_complete = answer is not None
        return Response() if answer is None else self._read_response(answer)


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


class BodyRecorder(BodyCloseObserver):
    """A proxy of a byte stream that keeps its content and reports its end."""

    def __init__(self, stream: Any, recorder: StreamRecorder, arrived: ArrivedBody) -> None:  # noqa: ANN401 - a byte stream of httpx or httpx2
        super().__init__(stream, recorder)
        self._self_arrived = arrived
        self._self_has_data = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self.__wrapped__:
                self._self_keep(piece)
                yield piece
        except GeneratorExit:
            raise
        except BaseException as error:
            self._self_over(error)
            raise
        else:
            self._self_over(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self.__wrapped__:
                self._self_keep(piece)
                yield piece
        except GeneratorExit:
            raise
        except BaseException as error:
            self._self_over(error)
            raise
        else:
            self._self_over(None)

    def _self_keep(self, piece: bytes) -> None:
        self._self_arrived.pieces.append(piece)
        if not self._self_has_data and (b"data:" in piece or sse.is_aws(piece) or self._self_arrived.is_encoded):
            self._self_has_data = True
            self._self_recorder.traced_call.chunk_arrived()

    def _self_over(self, error: BaseException | None) -> None:
        self._self_recorder.end(error=error)


class BodyCapture(BodyRecorder):
    """A ``BodyRecorder`` that does not report the end; the wrapper of the SDK's iterator does."""

    def _self_over(self, error: BaseException | None) -> None:  # noqa: ARG002 - the parent's signature
        return


def record_body(traced_call: TracedCall, response: Any) -> StreamRecorder:  # noqa: ANN401 - a response of httpx or httpx2
    """Return a recorder of a stream that parses the bytes of ``response`` instead of the SDK's chunks.

    For SDKs whose models drop fields.
    """
    arrived = ArrivedBody(traced_call, response)
    recorder = StreamRecorder(traced_call, arrived)
    response.stream = BodyCapture(response.stream, recorder, arrived)
    return recorder


def record_raw_body(traced_call: TracedCall, response: Any) -> None:  # noqa: ANN401 - a response of httpx or httpx2
    """Record a response whose body the user reads unparsed."""
    arrived = ArrivedRawBody(traced_call, response)
    response.stream = BodyRecorder(response.stream, StreamRecorder(traced_call, arrived), arrived)


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


def _decoded(response_class: Any, headers: Any, raw: bytes) -> bytes:  # noqa: ANN401 - httpx or httpx2
    try:
        return bytes(response_class(200, headers=headers, content=raw).content)
    except (ValueError, RuntimeError, OSError):
        # A truncated body may end inside a compressed block; its content is then unknown.
        return b""
