"""Recording of streams. The user holds the SDK's own stream object, with its iterator or body replaced.

``Arrived`` and its subclasses hold the received part of a response. ``StreamRecorder`` decides how a stream ended;
the wrappers of iterators and bodies report to it.

Invariants (tests/contract/test_every_client.py, tests/instrumentation/test_left_streams.py):
    Chunks and exceptions are passed on unchanged, and however the stream ends, the received part is recorded.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from itertools import chain, filterfalse, islice
from operator import attrgetter
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import wrapt

from spancast.diagnostics import never_raise
from spancast.dialects import delta_fast_path
from spancast.dialects.delta_fast_path import TextReader
from spancast.dialects.protocol import StreamReader
from spancast.instrumentation import sse
from spancast.model import json_codec
from spancast.model.call import Response
from spancast.tracing.traced_call import Incomplete, TracedCall

_BLOCK_EVENTS: Final = 256
"""Number of events between two checks of their size."""
_MAX_UNPARSED_BYTES: Final = 8 << 20
"""Size of unparsed events at which they are parsed, so that a long stream does not fill the memory."""
_SAMPLE: Final = 4
"""Number of events, spread evenly, whose length is the sample for the estimated size."""
_EVENT_BYTES: Final = 320
"""Size of the SDK's event object without its text."""


@functools.cache
def _shielded_method(kind: type[object], name: str) -> Callable[..., Any]:
    return never_raise(getattr(kind, name))


def _safe(reader: StreamReader, name: str) -> Callable[[Any], None]:
    """Return a method of ``reader`` wrapped in ``never_raise``; the wrapper is cached per class."""
    return MethodType(_shielded_method(type(reader), name), reader)


def _feed_texts(reader: StreamReader, texts: list[str]) -> None:
    """Feed a reader the JSON text of events; an error affects one event only."""
    if hasattr(reader, "feed_text"):
        delta_fast_path.feed_texts(cast("TextReader", reader), texts, _safe(reader, "feed_text"))
        return
    feed = _safe(reader, "feed")
    for text in texts:
        payload = json_codec.decode(text)
        if payload is not None:
            feed(payload)


class Arrived:
    """The received part of a streamed response; this class parses each chunk as it arrives.

    The traced call holds it, and it holds neither the call nor the stream. So every end of the call (by a reader of
    the stream, its body or a finalizer in a garbage cycle) finds the same response, and an abandoned stream is not
    kept alive.
    """

    __slots__ = ("_dialect", "_new_reader", "_reader", "is_complete")

    def __init__(self, traced_call: TracedCall) -> None:
        self._dialect: Final = traced_call.dialect
        self._new_reader: Final = traced_call.new_stream
        self._reader: StreamReader | None = None
        self.is_complete = False
        """Whether the response, once parsed, is complete, even if its stream was closed early."""

    @property
    def reader(self) -> StreamReader:
        """Return the reader that assembles the response."""
        reader = self._reader
        if reader is None:
            reader = self._reader = self._new_reader()
        return reader

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that parses the next chunk and does not raise."""
        return _safe(self.reader, "feed")

    @property
    def unparsed_bytes(self) -> int | None:
        """Return the size of the unparsed data, in bytes; None if everything has been parsed."""
        return None

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        return self.reader.result()


class ArrivedEvents(Arrived):
    """The events of the SDK's decoder, kept to be parsed after the end of the call.

    ``uses_decoder`` is set when the SDK uses our decoder. If it does not, its chunks are parsed as they arrive.
    """

    __slots__ = ("events", "uses_decoder")

    def __init__(self, traced_call: TracedCall) -> None:
        super().__init__(traced_call)
        self.events: Final[list[Any]] = []
        self.uses_decoder = False

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that parses a chunk unless its event is kept."""
        feed = super().feed

        def feed_unless_kept(chunk: object) -> None:
            if not self.uses_decoder:
                feed(chunk)

        return feed_unless_kept

    @property
    def unparsed_bytes(self) -> int | None:
        """Return the size of the events in bytes, estimated from a sample; None if chunks were parsed instead."""
        return None if not self.uses_decoder and self._reader is not None else self._estimated_bytes()

    def _estimated_bytes(self) -> int:
        events = self.events
        sample = events[:: max(len(events) // _SAMPLE, 1)]
        # Events of an unknown decoder may have no ``data``; the parsing of those fails later, and is counted.
        total = sum([len(getattr(event, "data", "")) + _EVENT_BYTES for event in sample])
        return total * len(events) // max(len(sample), 1)

    @never_raise
    def limit_memory(self) -> None:
        """Parse the events now if they take too much memory."""
        if self._estimated_bytes() > _MAX_UNPARSED_BYTES:
            self._read()

    @never_raise
    def _read(self) -> None:
        # The list object stays: another thread may be appending to it.
        events = self.events[:]
        del self.events[: len(events)]
        _feed_texts(self.reader, _texts_of(events, self._dialect.end_marker))

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        self._read()
        return self.reader.result()


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
        if "event-stream" in self._headers.get("content-type", ""):
            # SDKs close the body after its end marker; such a response is complete.
            payloads, self.is_complete = sse.payloads(body, self._dialect)
            return self._assemble(payloads)
        answer = json_codec.decode(body)
        self.is_complete = answer is not None
        return Response() if answer is None else self._read_response(answer)


class StreamRecorder:
    """The recorder of one stream; the first report of an end ends the call."""

    __slots__ = ("_iterator", "arrived", "has_ended", "hides_usage_chunk", "in_sdk_iterator", "traced_call")

    def __init__(
        self, traced_call: TracedCall, arrived: Arrived | None = None, *, hides_usage_chunk: bool = False
    ) -> None:
        self.traced_call: Final = traced_call
        self.arrived: Final = Arrived(traced_call) if arrived is None else arrived
        traced_call.expect_stream(self.arrived)
        self.has_ended = False
        self.in_sdk_iterator = False
        self.hides_usage_chunk: Final = hides_usage_chunk
        self._iterator: Callable[[], Any] = _nothing

    def track(self, iterator: Any) -> None:  # noqa: ANN401 - the SDK's
        """Track ``iterator``, the SDK's own, by a weak reference: its frame holds the stream, which holds this."""
        try:
            self._iterator = weakref.ref(iterator)
        except TypeError:
            # Not a generator; then only ``in_sdk_iterator`` shows that the SDK is reading.
            return

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that parses the next chunk and does not raise."""
        return self.arrived.feed

    def end(self, incomplete: Incomplete | None = None, error: BaseException | None = None) -> None:
        """End the call: the stream was read to its end, ended early (``incomplete``), or failed with ``error``."""
        if self.has_ended:
            return
        self.has_ended = True
        if error is not None:
            self.traced_call.fail(error)
        else:
            self.traced_call.end_stream(incomplete=incomplete)

    def __enter__(self) -> None:
        """Enter the block that reads the stream; its end is the end of the stream."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the call; an exception passes."""
        if isinstance(error, GeneratorExit):
            self.end("closed")
        else:
            self.end(error=error)

    @property
    def sdk_is_reading(self) -> bool:
        """Return whether the SDK's own iterator is running; then the SDK closes the body, not the user."""
        return self.in_sdk_iterator or bool(getattr(self._iterator(), "gi_running", False))

    def is_hidden(self, chunk: object) -> bool:
        """Return whether ``chunk`` is the usage chunk that spancast has requested, not the user."""
        return self.arrived.reader.is_usage_only(chunk)

    def __del__(self) -> None:
        # The stream was garbage collected before its end.
        if not getattr(self, "has_ended", True):
            self.end("abandoned")


def record_iterator(iterator: Iterator[Any], recorder: StreamRecorder) -> Generator[Any, Any, None]:
    """Yield the items of ``iterator``, the same objects, and record them with ``recorder``."""
    feed, traced_call, hides = recorder.feed, recorder.traced_call, recorder.hides_usage_chunk
    times_each = traced_call.times_every_chunk
    wants_time = True
    recorder.in_sdk_iterator = True
    with recorder:
        for chunk in iterator:
            recorder.in_sdk_iterator = False
            if wants_time:
                traced_call.chunk_arrived()
                wants_time = times_each
            feed(chunk)
            if not (hides and recorder.is_hidden(chunk)):
                yield chunk
            recorder.in_sdk_iterator = True


class EventDecoder:
    """A proxy of the SDK's decoder that keeps its events.

    It captures events before the SDK parses them: exactly those that the caller gets, and the caller cannot change
    them.
    """

    __slots__ = ("_arrived", "_decoder")

    def __init__(self, decoder: Any, arrived: ArrivedEvents) -> None:  # noqa: ANN401 - the SDK's
        self._decoder = decoder
        self._arrived = arrived

    def iter_bytes(self, pieces: Iterator[bytes]) -> Iterator[Any]:
        """Return the events of the SDK's decoder."""
        self._arrived.uses_decoder = True
        return chain.from_iterable(self._blocks(iter(self._decoder.iter_bytes(pieces))))

    def _blocks(self, events: Iterator[Any]) -> Iterator[Iterator[Any]]:
        # Each event is kept as it passes, without Python code per event: ``append`` returns None, which is false.
        keep = self._arrived.events.append
        for first in events:
            keep(first)
            yield chain((first,), filterfalse(keep, islice(events, _BLOCK_EVENTS - 1)))
            self._arrived.limit_memory()

    async def aiter_bytes(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
        """Return the events of the SDK's asynchronous decoder."""
        arrived = self._arrived
        arrived.uses_decoder = True
        async for event in self._decoder.aiter_bytes(pieces):
            arrived.events.append(event)
            if not len(arrived.events) % _BLOCK_EVENTS:
                arrived.limit_memory()
            yield event

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else the decoder has
        if name in EventDecoder.__slots__:
            raise AttributeError(name)
        return getattr(self._decoder, name)


def _texts_of(events: list[Any], end_marker: str | None) -> list[str]:
    """Return the text of the SDK's events, without the end marker."""
    if events and getattr(events[0], "_data", None) is events[0].data and len({*map(type, events)}) == 1:
        # ``_data`` is the value of the property ``data``; ``attrgetter`` needs no Python code per event.
        texts = [*map(_data_of, events)]
    else:
        texts = [event.data for event in events]
    return [text for text in texts if text != end_marker] if end_marker in texts else texts


_data_of: Final = attrgetter("_data")


def pass_through(
    iterator: Iterator[Any], recorder: StreamRecorder, arrived: ArrivedEvents
) -> Generator[Any, Any, None]:
    """Yield the items of ``iterator``; report only the first and the end, so that a chunk costs little."""
    with recorder:
        for chunk in iterator:
            recorder.traced_call.chunk_arrived()
            if not arrived.uses_decoder:
                yield from record_iterator(chain((chunk,), iterator), recorder)
                return
            yield chunk
            break
        yield from iterator


class AsyncRecordingIterator:
    """An asynchronous iterator that passes on the chunks of another one and records them.

    It is a class because the event loop finalizes an abandoned async generator later, in another context.
    """

    __slots__ = ("_feed", "_inner", "_is_first", "_recorder", "_times_each", "_wrapped")

    def __init__(self, inner: AsyncIterator[Any], recorder: StreamRecorder) -> None:
        self._inner = inner
        self._recorder = recorder
        self._feed = recorder.feed
        self._times_each = recorder.traced_call.times_every_chunk
        self._is_first = True

    def __aiter__(self) -> AsyncRecordingIterator:
        """Return this iterator."""
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - the SDK's chunk
        """Return the next chunk, the same object."""
        recorder = self._recorder
        while True:
            recorder.in_sdk_iterator = True
            try:
                chunk = await self._inner.__anext__()
            except StopAsyncIteration:
                recorder.end()
                raise
            except BaseException as error:
                recorder.end(error=error)
                raise
            finally:
                recorder.in_sdk_iterator = False
            if self._is_first or self._times_each:
                recorder.traced_call.chunk_arrived()
                self._is_first = False
            self._feed(chunk)
            if recorder.hides_usage_chunk and recorder.is_hidden(chunk):
                continue
            return chunk

    async def aclose(self) -> None:
        """Close the inner iterator, if it can be closed."""
        try:
            close = getattr(self._inner, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._recorder.end("closed")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner iterator has
        return getattr(self._inner, name)


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
            self._self_recorder.end("closed")


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
        if not self._self_has_data and (b"data:" in piece or self._self_arrived.is_encoded):
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


def _nothing() -> None:
    return


def _ignore(_chunk: object) -> None:
    return


def _decoded(response_class: Any, headers: Any, raw: bytes) -> bytes:  # noqa: ANN401 - httpx or httpx2
    try:
        return bytes(response_class(200, headers=headers, content=raw).content)
    except (ValueError, RuntimeError, OSError):
        # A truncated body may end inside a compressed block; its content is then unknown.
        return b""
