"""Recording of streams. The user holds the SDK's own stream object, with its iterator or body replaced.

``Arrived`` and its subclasses hold the received part of a response. ``StreamRecorder`` decides how a stream ended;
the wrappers of iterators and bodies report to it.

Invariants (tests/contract/test_every_client.py, tests/instrumentation/test_left_streams.py):
    Chunks and exceptions are passed on unchanged, and however the stream ends, the received part is recorded.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import MethodType, TracebackType
from typing import Any, Final

from spancast.diagnostics import never_raise
from spancast.dialects.protocol import StreamReader
from spancast.model.call import Response
from spancast.tracing.traced_call import Incomplete, TracedCall

_NO_FAILURES: Final = (GeneratorExit, StopIteration, StopAsyncIteration)
"""Exceptions that end an iteration."""


@functools.cache
def _shielded_method(kind: type[object], name: str) -> Callable[..., Any]:
    return never_raise(getattr(kind, name))


def safe_method(reader: StreamReader, name: str) -> Callable[[Any], None]:
    """Return a method of ``reader`` wrapped in ``never_raise``; the wrapper is cached per class."""
    return MethodType(_shielded_method(type(reader), name), reader)


class Arrived:
    """The received part of a streamed response; this class parses each chunk as it arrives.

    The traced call holds it, and it holds neither the call nor the stream. So every end of the call (by a reader of
    the stream, its body or a finalizer in a garbage cycle) finds the same response, and an abandoned stream is not
    kept alive.
    """

    __slots__ = ("_dialect", "_new_reader", "_reader", "is_complete", "is_stream")

    def __init__(self, traced_call: TracedCall) -> None:
        self._dialect: Final = traced_call.dialect
        self._new_reader: Final = traced_call.new_stream
        self._reader: StreamReader | None = None
        self.is_stream = True
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
        return safe_method(self.reader, "feed")

    @property
    def unparsed_bytes(self) -> int | None:
        """Return the size of the unparsed data, in bytes; None if the response must be read at once."""
        return self.reader.held_bytes

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        return self.reader.result()


class StreamRecorder:
    """The recorder of one stream; the first report of an end ends the call."""

    __slots__ = (
        "_handled", "_iterator", "arrived", "has_ended", "hides_usage_chunk", "in_sdk_iterator", "traced_call",
    )  # fmt: skip

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
        # The exception that the caller was handling before, by its id: a reference would keep the caller's frames.
        self._handled = id(sys.exception())

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

    def closed(self) -> None:
        """End the call, whose stream was closed: by an exception inside its ``with`` block, or without one."""
        error = sys.exception()
        if error is None or id(error) == self._handled or isinstance(error, _NO_FAILURES):
            self.end("closed")
        else:
            self.end(error=error)

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


def _nothing() -> None:
    return
