"""Patches of aiohttp: completion calls made without an SDK, whole and streamed.

Every request passes the private ``ClientSession._request``; the public tracing of aiohttp does not see the body of a
stream. The reader in ``ClientResponse.content`` is replaced by a proxy, from which every method takes the body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from spancast.instrumentation.http_body import ArrivedRawBody, BodyStreamRecorder, Proxy
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Patch
from spancast.instrumentation.raw_http import decoder_of, is_of_interest, start_request, wrap_request
from spancast.instrumentation.wrap_call import Begun, CallDescription
from spancast.model.completion_urls import DIALECTS
from spancast.tracing.traced_call import TracedCall

_INSTRUMENTED: Final = InstrumentedClients()


class _Request(CallDescription):
    """The method ``_request`` of a session."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - a session
        """Start a call if the request is a completion call; its note is whether the body is read decoded."""
        if not _INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        given: Any = args[1] if len(args) > 1 else kwargs["str_or_url"]
        url = str(given)
        build: Callable[[Any], object] | None = getattr(owner, "_build_url", None)
        if build is not None and "://" not in url:
            url = str(build(given))
        body: object = kwargs.get("json")
        body = kwargs.get("data") if body is None else body
        headers: object = kwargs.get("headers") or owner.headers
        decodes: object = kwargs.get("auto_decompress")
        decodes = owner.auto_decompress if decodes is None else decodes
        return start_request(url, body, headers), args, kwargs, decodes

    def record(self, traced_call: TracedCall, result: Any, note: object) -> None:  # noqa: ANN401 - a response
        """Record the response as the caller reads it."""
        decode = None if note else decoder_of(result.headers.get("content-encoding"))
        arrived = ArrivedRawBody(traced_call, decode, result.status)
        recorder = BodyStreamRecorder(traced_call, arrived)
        if result.content.at_eof():
            recorder.end()
        else:
            result.content = _ContentReader(result.content, recorder)


def _class_of(reader: object) -> Any:  # noqa: ANN401 - a class with the methods of a stream reader
    return type(reader)


class _ContentReader(Proxy):
    """A proxy of a ``StreamReader`` that keeps what is read from it."""

    def __init__(self, reader: Any, recorder: BodyStreamRecorder) -> None:  # noqa: ANN401 - a stream reader
        super().__init__(reader)
        self._self_recorder = recorder

    async def _self_read(self, name: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        try:
            data = await getattr(self.__wrapped__, name)(*args, **kwargs)
        except asyncio.CancelledError:
            # The caller may read on; otherwise the response is closed.
            raise
        except BaseException as error:
            # What is read of an incomplete block.
            self._self_keep(getattr(error, "partial", b""))
            self._self_recorder.end(error=error)
            raise
        self._self_keep(data[0] if name == "readchunk" else data)
        return data

    def _self_keep(self, piece: Any) -> None:  # noqa: ANN401 - bytes
        if piece:
            self._self_recorder.keep(piece)
        if self.__wrapped__.at_eof():
            self._self_recorder.end()

    async def read(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Read bytes."""
        return await self._self_read("read", *args, **kwargs)

    async def readany(self) -> Any:  # noqa: ANN401 - the method's own
        """Read what has arrived."""
        return await self._self_read("readany")

    async def readline(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Read a line."""
        return await self._self_read("readline", *args, **kwargs)

    async def readuntil(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Read up to a separator."""
        return await self._self_read("readuntil", *args, **kwargs)

    async def readexactly(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Read a number of bytes."""
        return await self._self_read("readexactly", *args, **kwargs)

    async def readchunk(self) -> Any:  # noqa: ANN401 - the method's own
        """Read a chunk and whether it is a whole one."""
        return await self._self_read("readchunk")

    def read_nowait(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Return bytes that have arrived."""
        data = self.__wrapped__.read_nowait(*args, **kwargs)
        self._self_keep(data)
        return data

    # The iterators of aiohttp call the methods above if they are made for this object.
    def __aiter__(self) -> Any:  # noqa: ANN401 - the method's own
        return _class_of(self.__wrapped__).__aiter__(self)

    def iter_chunked(self, n: int) -> Any:  # noqa: ANN401 - the method's own
        """Return an asynchronous iterator of blocks."""
        return _class_of(self.__wrapped__).iter_chunked(self, n)

    def iter_any(self) -> Any:  # noqa: ANN401 - the method's own
        """Return an asynchronous iterator of what arrives."""
        return _class_of(self.__wrapped__).iter_any(self)

    def iter_chunks(self) -> Any:  # noqa: ANN401 - the method's own
        """Return an asynchronous iterator of chunks."""
        return _class_of(self.__wrapped__).iter_chunks(self)

    def set_exception(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the method's own
        """Set the exception of later reads; a response does it if it is closed or released before its end."""
        self.__wrapped__.set_exception(*args, **kwargs)
        self._self_recorder.closed()


def _concerns(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if (args[0] if args else kwargs["method"]).upper() != "POST":
        return False
    return is_of_interest(str(args[1] if len(args) > 1 else kwargs["str_or_url"]).partition("?")[0])


_, _HOOK = wrap_request(_Request(), _concerns)

PATCHES: Final = ClientPatches(
    dialects=DIALECTS,
    instrumented=_INSTRUMENTED,
    patches=(Patch("aiohttp.client", "ClientSession._request", _HOOK),),
    instance_patches=(InstancePatch("_request", _HOOK),),
)
