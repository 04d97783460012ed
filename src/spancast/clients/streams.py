"""A stream is recorded however it ends, and the user holds the SDK's own object all the while.

``StreamWatch`` decides; the proxies around iterators and bodies only tell it what happened.
Must never: hold a context token over a yield, delay a chunk, or change an exception.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from itertools import chain, islice, tee
from operator import attrgetter
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import wrapt

from spancast.clients import sse
from spancast.dialects import event_run
from spancast.dialects.event_run import TextReader
from spancast.dialects.protocol import StreamReader
from spancast.errors import shielded
from spancast.model import json_text
from spancast.model.exchange import Response
from spancast.recording.recording import Incomplete, Recording

_BLOCK: Final = 256
"""Events that pass before it is asked what those that are kept take."""
_MOST_BYTES: Final = 8 << 20
"""What is kept as it came before it is read, so that an endless stream does not fill the memory."""
_ASKED: Final = 4
"""Of how many events, spread over all, the length is taken for that of the others."""
_EVENT_BYTES: Final = 320
"""What the SDK's object for one takes beside its text."""
_DONE: Final = "[DONE]"


@functools.cache
def _shielded_method(kind: type[object], name: str) -> Callable[..., Any]:
    return shielded(getattr(kind, name))


def _safe(reader: StreamReader, name: str) -> Callable[[Any], None]:
    """Return a method of ``reader`` made safe: once for its kind, and not for each stream."""
    return MethodType(_shielded_method(type(reader), name), reader)


def _feed_texts(reader: StreamReader, texts: list[str]) -> None:
    """Give a reader the JSON text of events; what it fails at is one event."""
    if hasattr(reader, "feed_text"):
        event_run.feed_texts(cast("TextReader", reader), texts, _safe(reader, "feed_text"))
        return
    feed = _safe(reader, "feed")
    for text in texts:
        payload = json_text.decode(text)
        if payload is not None:
            feed(payload)


class StreamWatch:
    """One streamed answer: fed with chunks, ended once, by whoever comes first."""

    __slots__ = ("_reader", "is_advancing", "is_over", "recording", "withholds_usage")

    def __init__(self, recording: Recording, *, withholds_usage: bool = False) -> None:
        self.recording: Final = recording
        self._reader: StreamReader | None = None
        self.is_over = False
        self.is_advancing = False
        self.withholds_usage: Final = withholds_usage

    @property
    def reader(self) -> StreamReader:
        """Return the reader that assembles the answer."""
        reader = self._reader
        if reader is None:
            reader = self._reader = self.recording.new_stream()
        return reader

    @property
    def waiting_bytes(self) -> int | None:
        """Return what is kept to be read later, in bytes; None where everything has been read."""
        return None

    @property
    def feed(self) -> Callable[[object], None]:
        """Return the reader's ``feed``, made safe."""
        return _safe(self.reader, "feed")

    def over(self, incomplete: Incomplete | None = None, error: BaseException | None = None) -> None:
        """The stream ended: read to the end, early (``incomplete``), or by ``error``."""
        if self.is_over:
            return
        self.is_over = True
        self._end(incomplete, error)

    @shielded
    def _end(self, incomplete: Incomplete | None, error: BaseException | None) -> None:
        if error is not None:
            self.recording.fail(error, self.result, waiting_bytes=self.waiting_bytes)
        else:
            self.recording.finish(self.result, incomplete=incomplete, waiting_bytes=self.waiting_bytes)

    def __enter__(self) -> None:
        """Begin the block in which the stream is read: as it ends, so did the stream."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Tell how it ended; an exception passes."""
        if isinstance(error, GeneratorExit):
            self.over("closed")
        else:
            self.over(error=error)

    def result(self) -> Response:
        """Return what has arrived."""
        return self.reader.result()

    @property
    def is_sdk_running(self) -> bool:
        """Tell whether the SDK's own iterator is at work: a body closed meanwhile is its doing, not the user's."""
        return self.is_advancing

    def is_withheld(self, chunk: object) -> bool:
        """Tell whether ``chunk`` is the usage chunk that we, not the user, asked for."""
        is_usage_only = getattr(self.reader, "is_usage_only", None)
        return bool(is_usage_only is not None and is_usage_only(chunk))

    def __del__(self) -> None:
        # Nobody holds the stream any more and nobody ended it.
        if not getattr(self, "is_over", True):
            self.over("abandoned")


def watched(iterator: Iterator[Any], watch: StreamWatch) -> Generator[Any, Any, None]:
    """Yield what ``iterator`` yields, the same objects, and tell ``watch``."""
    feed, recording, withholds = watch.feed, watch.recording, watch.withholds_usage
    times_each = recording.times_every_chunk
    wants_time = True
    watch.is_advancing = True
    with watch:
        for chunk in iterator:
            watch.is_advancing = False
            if wants_time:
                recording.chunk_arrived()
                wants_time = times_each
            feed(chunk)
            if not (withholds and watch.is_withheld(chunk)):
                yield chunk
            watch.is_advancing = True


class EventWatch(StreamWatch):
    """A watch that keeps the events the SDK's decoder makes, to be read when somebody looks at the span.

    It stands in the decoder's place, before the SDK's own parsing: it holds what the caller got, no
    more, and nothing he can change. An SDK that asks its decoder otherwise is heard chunk by chunk.
    """

    __slots__ = ("_decoder", "_events", "_hears", "_iterator", "_passing", "_source")

    def __init__(self, recording: Recording, decoder: Any, *, withholds_usage: bool = False) -> None:  # noqa: ANN401 - the SDK's
        super().__init__(recording, withholds_usage=withholds_usage)
        self._decoder = decoder
        self._iterator: Callable[[], Any] = _nothing
        self._hears = False
        self._events: list[Any] = []
        self._passing: Iterator[Any] = iter(())
        """What passes at present, a second time: ``tee`` keeps it without a step of ours for each event."""
        self._source: Any = None

    def expect(self, iterator: Any) -> None:  # noqa: ANN401 - the SDK's
        """Watch ``iterator``, the SDK's own over its chunks; not held: its frame holds the stream that holds this."""
        try:
            self._iterator = weakref.ref(iterator)
        except TypeError:
            # No generator: then what is closed while it runs is told by ``is_advancing`` alone.
            return

    @property
    def hears(self) -> bool:
        """Tell whether the SDK has asked for events here, and not in a way unknown to us."""
        return self._hears

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that ignores the parsed chunk, unless nothing else tells it."""
        feed = super().feed

        def feed_unheard(chunk: object) -> None:
            if not self._hears:
                feed(chunk)

        return feed_unheard

    @property
    def is_sdk_running(self) -> bool:
        """Tell whether the SDK's own generator is at work: a body closed meanwhile is its doing, not the user's."""
        return self.is_advancing or bool(getattr(self._iterator(), "gi_running", False))

    def iter_bytes(self, pieces: Iterator[bytes]) -> Iterator[Any]:
        """Return the events the SDK's decoder yields."""
        self._hears = True
        self._source = iter(self._decoder.iter_bytes(pieces))
        return chain.from_iterable(self._blocks(self._source))

    def _blocks(self, events: Iterator[Any]) -> Iterator[Iterator[Any]]:
        while True:
            self._passing, passing = tee(islice(events, _BLOCK))
            yield passing
            before = len(self._events)
            self._keep()
            if len(self._events) - before < _BLOCK:
                return
            self._bound()

    async def aiter_bytes(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
        """As ``iter_bytes``."""
        self._hears = True
        async for event in self._decoder.aiter_bytes(pieces):
            self._events.append(event)
            if not len(self._events) % _BLOCK:
                self._bound()
            yield event

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else the decoder has
        if name in _OWN:
            raise AttributeError(name)
        return getattr(self._decoder, name)

    def over(self, incomplete: Incomplete | None = None, error: BaseException | None = None) -> None:
        """The stream ended; what the SDK has not taken is not read either."""
        if not self.is_over:
            self._stop()
        super().over(incomplete, error)

    @shielded
    def _stop(self) -> None:
        # Let go first: closing it closes the body, which leads here again.
        source, self._source = self._source, None
        close = getattr(source, "close", None)
        if close is not None:
            close()
        self._keep()

    def _keep(self) -> None:
        self._events += self._passing
        self._passing = iter(())

    @property
    def waiting_bytes(self) -> int | None:
        """Return what the events take, taking them to be as long as some of them."""
        return None if not self._hears and self._reader is not None else self._held_bytes()

    def _held_bytes(self) -> int:
        events = self._events
        asked = events[:: max(len(events) // _ASKED, 1)]
        # A decoder of another kind may keep the text elsewhere; reading it then is what fails, and is counted.
        took = sum([len(getattr(event, "data", "")) + _EVENT_BYTES for event in asked])
        return took * len(events) // max(len(asked), 1)

    @shielded
    def _bound(self) -> None:
        if self._held_bytes() > _MOST_BYTES:
            self._read()

    @shielded
    def _read(self) -> None:
        texts = _texts_of(self._events)
        self._events.clear()
        _feed_texts(self.reader, texts)

    def result(self) -> Response:
        """Return what has arrived."""
        self._read()
        return self.reader.result()


def _texts_of(events: list[Any]) -> list[str]:
    """Return what the SDK's events say, without the mark of the end."""
    if events and getattr(events[0], "_data", None) is events[0].data and len({*map(type, events)}) == 1:
        # What ``data`` of the SDKs' events returns, without a step of Python for each.
        texts = [*map(_data_of, events)]
    else:
        texts = [event.data for event in events]
    return [text for text in texts if text != _DONE] if _DONE in texts else texts


_data_of: Final = attrgetter("_data")
_OWN: Final = frozenset({*StreamWatch.__slots__, *EventWatch.__slots__})
"""What is not the decoder's to have, set or not."""


def followed(iterator: Iterator[Any], watch: EventWatch) -> Generator[Any, Any, None]:
    """Yield what ``iterator`` yields, and tell ``watch`` of the first and of the end: a chunk costs next to nothing."""
    with watch:
        for chunk in iterator:
            watch.recording.chunk_arrived()
            if not watch.hears:
                yield from watched(chain((chunk,), iterator), watch)
                return
            yield chunk
            break
        yield from iterator


class WatchedAsyncIterator:
    """The same for an asynchronous iterator.

    A class, not an async generator: an abandoned async generator is finalised by the event
    loop, later and in another context.
    """

    __slots__ = ("_feed", "_inner", "_is_first", "_times_each", "_watch", "_wrapped")

    def __init__(self, inner: AsyncIterator[Any], watch: StreamWatch) -> None:
        self._inner = inner
        self._watch = watch
        self._feed = watch.feed
        self._times_each = watch.recording.times_every_chunk
        self._is_first = True

    def __aiter__(self) -> WatchedAsyncIterator:
        """Return this iterator."""
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - the SDK's chunk
        """Return the next chunk, the same object."""
        watch = self._watch
        while True:
            watch.is_advancing = True
            try:
                chunk = await self._inner.__anext__()
            except StopAsyncIteration:
                watch.over()
                raise
            except BaseException as error:
                watch.over(error=error)
                raise
            finally:
                watch.is_advancing = False
            if self._is_first or self._times_each:
                watch.recording.chunk_arrived()
                self._is_first = False
            self._feed(chunk)
            if watch.withholds_usage and watch.is_withheld(chunk):
                continue
            return chunk

    async def aclose(self) -> None:
        """Close the inner iterator, as closing an async generator does."""
        try:
            close = getattr(self._inner, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._watch.over("closed")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner iterator has
        return getattr(self._inner, name)


if TYPE_CHECKING:
    Proxy: TypeAlias = wrapt.ObjectProxy[Any]
else:
    # Not subscriptable at run time in every supported version.
    Proxy = wrapt.ObjectProxy


class BodyWatch(Proxy):
    """The byte stream of an HTTP response, telling a ``StreamWatch`` when it is closed.

    ``isinstance`` sees the wrapped stream's own class, as httpx demands.
    """

    def __init__(self, stream: Any, watch: StreamWatch) -> None:  # noqa: ANN401 - a byte stream of httpx or httpx2
        super().__init__(stream)
        self._self_watch = watch

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.__wrapped__)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self.__wrapped__)

    def close(self) -> None:
        """Close the wrapped stream; early, unless its own reader does so."""
        try:
            self.__wrapped__.close()
        finally:
            self._self_closed()

    async def aclose(self) -> None:
        """As ``close``."""
        try:
            await self.__wrapped__.aclose()
        finally:
            self._self_closed()

    def _self_closed(self) -> None:
        if not self._self_watch.is_sdk_running:
            self._self_watch.over("closed")


class BodyReader(BodyWatch):
    """A byte stream whose content nobody but the user parses: kept aside, read when it ends."""

    def __init__(self, response: Any, watch: StreamWatch) -> None:  # noqa: ANN401 - a response of httpx or httpx2
        super().__init__(response.stream, watch)
        self._self_pieces: list[bytes] = []
        self._self_response_class: Any = type(response)
        self._self_headers = response.headers
        self._self_has_data = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self.__wrapped__:
                self._self_keep(piece)
                yield piece
        except GeneratorExit:
            raise
        except BaseException as error:
            self._self_over(None, error)
            raise
        else:
            self._self_over(None, None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self.__wrapped__:
                self._self_keep(piece)
                yield piece
        except GeneratorExit:
            raise
        except BaseException as error:
            self._self_over(None, error)
            raise
        else:
            self._self_over(None, None)

    def _self_keep(self, piece: bytes) -> None:
        self._self_pieces.append(piece)
        if not self._self_has_data and (b"data:" in piece or "content-encoding" in self._self_headers):
            self._self_has_data = True
            self._self_watch.recording.chunk_arrived()

    def _self_over(self, incomplete: Incomplete | None, error: BaseException | None) -> None:
        watch = self._self_watch
        if not watch.is_over:
            is_complete = _feed_body(watch, self.body(), self._self_headers.get("content-type", ""))
            # SDKs close the body at ``[DONE]`` without reading on: that is the end, not an early one.
            watch.over(None if is_complete else incomplete, error)

    def _self_closed(self) -> None:
        self._self_over("closed", None)

    def body(self) -> bytes:
        """Return what has been read so far, its content encoding undone."""
        raw = b"".join(self._self_pieces)
        if "content-encoding" not in self._self_headers:
            return raw
        return _decoded(self._self_response_class, self._self_headers, raw)


class BodyKeeper(BodyReader):
    """A ``BodyReader`` beside an SDK's own parsing, which tells how the stream ends.

    For SDKs whose models drop fields of the wire: lifecycle from the iterator, content from here.
    """

    def _self_over(self, incomplete: Incomplete | None, error: BaseException | None) -> None:  # noqa: ARG002 - the parent's signature
        return

    def _self_closed(self) -> None:
        BodyWatch._self_closed(self)  # noqa: SLF001 - the grandparent's rule, the parent's is the one replaced


class WireStreamWatch(StreamWatch):
    """A watch fed from the wire: the parsed chunks that pass are not read."""

    __slots__ = ("keeper",)

    def __init__(self, recording: Recording, response: Any) -> None:  # noqa: ANN401 - a response of httpx or httpx2
        super().__init__(recording)
        self.keeper = BodyKeeper(response, self)
        response.stream = self.keeper

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that ignores the parsed chunk."""
        return _ignore

    def result(self) -> Response:
        """Return what has arrived on the wire."""
        for payload in sse.payloads(self.keeper.body())[0]:
            self.reader.feed(payload)
        return self.reader.result()


def _nothing() -> None:
    return


def _ignore(_chunk: object) -> None:
    return


def _feed_body(watch: StreamWatch, body: bytes, content_type: str) -> bool:
    """Give a body to the reader of ``watch``: its events, or its one JSON value; tell whether it is whole."""
    if "event-stream" in content_type:
        found, is_complete = sse.payloads(body)
        for payload in found:
            watch.feed(payload)
        return is_complete
    answer = json_text.decode(body)
    if answer is not None:
        watch.recording.succeed(answer)
    return answer is not None


def _decoded(response_class: Any, headers: Any, raw: bytes) -> bytes:  # noqa: ANN401 - httpx or httpx2
    try:
        return bytes(response_class(200, headers=headers, content=raw).content)
    except (ValueError, RuntimeError, OSError):
        # A cut body may end inside a compressed block; then its content is unknown.
        return b""
