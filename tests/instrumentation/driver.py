"""One driver of an SDK: how the contract tests make a client and call one of its methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import spancast
from spancast.testing import ReplayServer

MESSAGES = [{"role": "user", "content": "hi"}]


@dataclass(frozen=True)
class Driver:
    """``make(server)`` gives a client, ``call(client, **keys)`` makes one call (or returns its coroutine)."""

    name: str
    sdk: str
    make: Callable[[ReplayServer], Any]
    call: Callable[..., Any]
    path: str
    is_async: bool = False
    stream: str = ""
    """Empty for complete responses; ``iterator`` or ``helper`` (a context manager) for streams."""

    sends_keys: bool = False
    """True if the SDK itself has the parameter ``trace`` and validates it."""

    mid_stream_error: type[Exception] = Exception
    """The exception of the SDK if the connection is closed during a stream."""

    status_error: type[Exception] = Exception
    operation: str = "chat"
    model: str = "m-1"
    forwards_keys: bool = True
    """False if the SDK has no way to add fields to a request."""

    starts_late: bool = False
    """True if a stream sends its request with its first step."""

    instrument: Callable[[Any], Any] = spancast.instrument
    """Instruments what ``make`` gives."""

    has_clients: bool = True
    """False if the SDK has functions and no clients, so that they can only be instrumented together."""

    cut_after: int = 2
    """The number of events after which the caller has got a chunk."""

    filters: tuple[str, ...] = ()
    """Filters of warnings that the SDK itself causes."""

    error_types: tuple[str, ...] = ()
    """``error.type`` of a rejected call if it is not the class of the exception."""

    lacks: tuple[str, ...] = ()
    """Attributes of the response that this format does not have."""

    reads_ahead: bool = False
    """True if a whole short stream may have arrived when its first chunk is given to the caller."""

    keeps_streams: bool = False
    """True if the SDK keeps a stream that the caller has left, so that it ends with the process, and hides its errors."""

    @property
    def id(self) -> str:
        return f"{self.sdk}-{self.name}"
