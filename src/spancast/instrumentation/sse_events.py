"""Recording of the events that an SDK's decoder makes of server-sent events, parsed after the end of the call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from itertools import chain, filterfalse, islice
from operator import attrgetter
from typing import Any, Final, cast

from spancast.diagnostics import never_raise
from spancast.dialects import delta_fast_path
from spancast.dialects.delta_fast_path import TextReader
from spancast.dialects.protocol import StreamReader
from spancast.instrumentation.stream_recorder import Arrived, StreamRecorder, record_iterator, safe_method
from spancast.model import json_codec
from spancast.model.call import Response
from spancast.tracing.traced_call import TracedCall

_BLOCK_EVENTS: Final = 256
"""Number of events between two checks of their size."""
_MAX_UNPARSED_BYTES: Final = 8 << 20
"""Size of unparsed events at which they are parsed, so that a long stream does not fill the memory."""
_SAMPLE: Final = 4
"""Number of events, spread evenly, whose length is the sample for the estimated size."""
_EVENT_BYTES: Final = 320
"""Size of the SDK's event object without its text."""


def _feed_texts(reader: StreamReader, texts: list[str]) -> None:
    """Feed a reader the JSON text of events; an error affects one event only."""
    if hasattr(reader, "feed_text"):
        delta_fast_path.feed_texts(cast("TextReader", reader), texts, safe_method(reader, "feed_text"))
        return
    feed = safe_method(reader, "feed")
    for text in texts:
        payload = json_codec.decode(text)
        if payload is not None:
            feed(payload)


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
        texts = _texts_of(events)
        end_marker = self._dialect.end_marker
        if end_marker in texts:
            self.is_complete = True
            texts = [text for text in texts if text != end_marker]
        _feed_texts(self.reader, texts)

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        self._read()
        return self.reader.result()


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


def _texts_of(events: list[Any]) -> list[str]:
    """Return the text of the SDK's events."""
    if events and getattr(events[0], "_data", None) is events[0].data and len({*map(type, events)}) == 1:
        # ``_data`` is the value of the property ``data``; ``attrgetter`` needs no Python code per event.
        return [*map(_data_of, events)]
    return [event.data for event in events]


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
