"""Patches of urllib3: completion calls made without an SDK; the recording of its responses, which requests has too."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from spancast.instrumentation.http_body import ArrivedRawBody, BodyStreamRecorder, record_whole_body
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Patch
from spancast.instrumentation.raw_http import decoder_of, is_of_interest, start_request, wrap_request
from spancast.instrumentation.wrap_call import Begun, CallDescription
from spancast.model.completion_urls import DIALECTS
from spancast.tracing.traced_call import TracedCall

_INSTRUMENTED: Final = InstrumentedClients()
_PARAMETERS: Final = ("method", "url", "body", "headers")


class _UrlOpen(CallDescription):
    """The method ``urlopen`` of a connection pool or a pool manager; it calls itself for retries and redirects."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - a pool
        """Start a call if the request is a completion call; its note is whether the response is read at once."""
        if not _INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        given: dict[str, Any] = {**kwargs, **dict(zip(_PARAMETERS, args, strict=False))}
        url: str = given["url"]
        if not urlsplit(url).scheme:
            port = f":{owner.port}" if owner.port else ""
            url = f"{owner.scheme}://{owner.host}{port}{url}"
        headers = given.get("headers") or getattr(owner, "headers", None)
        return start_request(url, given.get("body"), headers), args, kwargs, given.get("preload_content", True)

    def record(self, traced_call: TracedCall, result: Any, note: object) -> None:  # noqa: ANN401 - a response
        """Record a response that was read, or one that the caller reads."""
        if note:
            record_whole_body(traced_call, result.data or b"", result.status)
        else:
            record_reads(traced_call, result, result.status)


def record_reads(traced_call: TracedCall, response: Any, status: int) -> None:  # noqa: ANN401 - a response of urllib3
    """Record an unread response: until its body has ended, its class is a subclass that keeps what is read.

    Methods on the object would be in a reference cycle with it, and a response that is dropped must close at once.
    """
    kind = cast("type[Any]", type(response))
    recorder = BodyStreamRecorder(traced_call, ArrivedRawBody(traced_call, status=status))
    response._self_spancast = recorder  # noqa: SLF001 - our own attribute
    response.__class__ = _recorded_class(kind)


@functools.cache
def _recorded_class(kind: type[Any]) -> type[Any]:
    names = {"__slots__": (), "__doc__": kind.__doc__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (_RecordedWithRead1 if hasattr(kind, "read1") else _Recorded, kind), names)


if TYPE_CHECKING:
    from urllib3 import HTTPResponse
else:
    HTTPResponse = object


class _Recorded(HTTPResponse):
    """The methods of a response whose body is being read; every other method calls one of them."""

    __slots__ = ()

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Read the body, or ``amt`` bytes of it."""
        data = _keep(self, super().read, amt, *args, **kwargs)
        if amt is None or amt < 0 or (not data and amt):
            _end(self)
        return data

    # The methods of the superclass are looked up at the call: a generator may run after the class has been restored.
    def read_chunked(self, amt: int | None = None, decode_content: bool | None = None) -> Generator[bytes]:
        """Yield the chunks of a chunked body."""
        return _kept_chunks(self, super().read_chunked(amt, decode_content), is_decoded=bool(decode_content))

    def stream(self, *args: Any, **kwargs: Any) -> Generator[bytes]:  # noqa: ANN401 - the method's own
        """Yield the body with the methods above."""
        return _to_its_end(self, super().stream(*args, **kwargs))

    def close(self) -> None:
        """Close the response."""
        _closing(self, super().close)

    def release_conn(self) -> None:
        """Release the connection."""
        _closing(self, super().release_conn)

    def drain_conn(self) -> None:
        """Read the rest unseen."""
        _closing(self, super().drain_conn)


class _RecordedWithRead1(_Recorded):
    """As ``_Recorded``; urllib3 has this method since 2.2."""

    __slots__ = ()

    def read1(self, amt: int | None = None, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Read what has arrived, at most ``amt`` bytes."""
        data = _keep(self, super().read1, amt, *args, **kwargs)
        if not data and amt != 0:
            _end(self)
        return data


def _kept_chunks(response: Any, chunks: Generator[bytes], *, is_decoded: bool) -> Generator[bytes]:  # noqa: ANN401 - a response
    recorder: BodyStreamRecorder | None = response._self_spancast  # noqa: SLF001
    if recorder is None:
        yield from chunks
        return
    _note_encoding(response, recorder, is_decoded=is_decoded)
    recorder.in_sdk_iterator = True
    try:
        for chunk in chunks:
            recorder.in_sdk_iterator = False
            recorder.keep(chunk)
            yield chunk
            recorder.in_sdk_iterator = True
    except GeneratorExit:
        # urllib3 has closed the connection. An exception inside a ``with`` block is seen at the block's end.
        recorder.is_left = True
        raise
    except BaseException as error:
        _end(response, error)
        raise
    else:
        _end(response)
    finally:
        recorder.in_sdk_iterator = False


def _to_its_end(response: Any, pieces: Generator[bytes]) -> Generator[bytes]:  # noqa: ANN401 - a response
    yield from pieces
    _end(response)


def _keep(response: Any, method: Callable[..., Any], amt: int | None, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - a response
    """Return what ``method`` reads, and keep it."""
    recorder: BodyStreamRecorder | None = response._self_spancast  # noqa: SLF001
    if recorder is None:
        return method(amt, *args, **kwargs)
    # It closes and releases the response itself at the end of the body.
    recorder.in_sdk_iterator = True
    try:
        data = method(amt, *args, **kwargs)
    except BaseException as error:
        _end(response, error)
        raise
    finally:
        recorder.in_sdk_iterator = False
    wanted = args[0] if args else kwargs.get("decode_content")
    _note_encoding(response, recorder, is_decoded=response.decode_content if wanted is None else bool(wanted))
    recorder.keep(data)
    return data


def _note_encoding(response: Any, recorder: BodyStreamRecorder, *, is_decoded: bool) -> None:  # noqa: ANN401 - a response
    if not is_decoded and recorder.body.decode is None:
        recorder.body.decode = decoder_of(response.headers.get("content-encoding"))


def _closing(response: Any, method: Callable[[], None]) -> None:  # noqa: ANN401 - a response
    recorder: BodyStreamRecorder | None = response._self_spancast  # noqa: SLF001
    is_read = response.isclosed() and recorder is not None and not recorder.is_left
    try:
        method()
    finally:
        if recorder is not None and not recorder.sdk_is_reading:
            if is_read:
                recorder.end()
            else:
                recorder.closed()
            _restore(response)


def _end(response: Any, error: BaseException | None = None) -> None:  # noqa: ANN401 - a response
    recorder: BodyStreamRecorder | None = response._self_spancast  # noqa: SLF001
    if recorder is not None:
        recorder.end(error=error)
        _restore(response)


def _restore(response: Any) -> None:  # noqa: ANN401 - a response
    """Give the response its own class again; a generator of it may still run."""
    response._self_spancast = None  # noqa: SLF001
    kinds: tuple[type[Any], ...] = cast("type[Any]", type(response)).__mro__
    response.__class__ = next(kind for kind in kinds if not issubclass(kind, _Recorded))


def _concerns(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if (args[0] if args else kwargs["method"]) != "POST":
        return False
    url: str = args[1] if len(args) > 1 else kwargs["url"]
    return is_of_interest(url.partition("?")[0])


_HOOK, _ = wrap_request(_UrlOpen(), _concerns)

PATCHES: Final = ClientPatches(
    dialects=DIALECTS,
    instrumented=_INSTRUMENTED,
    patches=(Patch("urllib3.connectionpool", "HTTPConnectionPool.urlopen", _HOOK),),
    instance_patches=(InstancePatch("urlopen", _HOOK),),
)
