"""What a span tells, read only when somebody looks: a processor, an exporter, a thread of ours.

Reading a request and its answer takes longer than making the span, and the bytes they are read
from change no more once the call has ended. So an ended span is an ordinary span of the SDK whose
attributes, and status where the answer decides it, are filled by whoever looks first; from then on
they are the SDK's own objects and nothing else. Must never: read twice, write past a span's
limits, or let anybody see half of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Status, StatusCode

from spancast.model.call import Attributes
from spancast.tracing.attributes import add, dict_of, is_known

Read: TypeAlias = "Callable[[], tuple[Attributes, Status | None] | None]"
"""Returns the attributes to add and the status (None: as it is), or None where reading failed."""


_RLock: Final[Any] = type(threading.RLock())
"""The class behind ``threading.RLock``, which is a function that looks for it at each call."""
_UNSET: Final = Status()


class LazyStatus(Status):
    """One reading to come, of the attributes ``held``; ``size_bytes`` is roughly what waits for it in memory.

    Where the answer decides it, this is the span's status as well: it is not known before.
    ``then`` is done by who has read, when nobody has to wait for him any more.
    """

    _is_done = False
    _told: Status | None = None

    def __init__(  # pyright: ignore[reportMissingSuperCall] - it would set what is read here
        self,
        held: Any,  # noqa: ANN401 - the SDK's ``BoundedAttributes``
        read: Read,
        size_bytes: int,
        then: Callable[[], None] | None = None,
    ) -> None:
        self._held: Any = held
        self._read: Read | None = read
        self._then = then
        # Whoever reads may look at the span again (a log handler that adds its attributes).
        self._lock = _RLock()
        self.size_bytes: Final = size_bytes
        held._pending = self  # noqa: SLF001 - by no other name of ours
        held.__class__ = LazyAttributes

    def settle(self) -> Status | None:
        """Read, once, and return the status; another thread that asks meanwhile waits."""
        if self._is_done:
            return self._told
        then: Callable[[], None] | None = None
        with self._lock:
            read, self._read = self._read, None
            if read is not None:
                then, self._then = self._then, None
                held = self._held
                try:
                    found = read()
                    if found is not None:
                        added, self._told = found
                        add(held, added)
                finally:
                    held.__class__ = BoundedAttributes
                    self._is_done = True
                    # It holds this: what has been read needs no collector to go.
                    self._held = None
        if then is not None:
            then()
        return self._told

    @property
    def _status_code(self) -> StatusCode:  # pyright: ignore[reportIncompatibleVariableOverride] - what all its others read
        status = self.settle()
        return StatusCode.UNSET if status is None else status.status_code

    @property
    def _description(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        status = self.settle()
        return None if status is None else status.description


class LazyAttributes(BoundedAttributes):
    """The SDK's own object for as long as some of it is unread: every look at it passes one of these properties."""

    @property
    def _dict(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride] - that is the point
        return _settled(self)["_dict"]

    @property
    def dropped(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        """Return how many attributes did not fit."""
        return _settled(self)["dropped"]


def _settled(attributes: LazyAttributes) -> dict[str, Any]:
    fields = vars(attributes)
    pending: LazyStatus = fields["_pending"]
    pending.settle()
    return fields


def read(span: ReadableSpan) -> None:
    """Read an ended span, where nobody has looked at it yet."""
    held = getattr(span, "_attributes", None)
    if type(held) is LazyAttributes:
        _settled(held)


def attributes_and_status(span: ReadableSpan) -> tuple[dict[str, Any], Status]:
    """Return the attributes (the caller's own copy) and the status of an ended span, read now where nobody has yet."""
    read(span)
    held: Any = getattr(span, "_attributes", None)
    if is_known(held):
        # By the field: through the SDK's view of it, each item is three calls of Python.
        attributes: dict[str, Any] = dict_of(held).copy()
    else:
        attributes = dict(span.attributes or {})
    status = span.status
    if type(status) is LazyStatus:
        status = status.settle() or _UNSET
    return attributes, status


def unparsed_bytes(span: object) -> int | None:
    """Return what a span that nobody has looked at holds in memory, in bytes; None for every other span."""
    attributes = getattr(span, "_attributes", None)
    if type(attributes) is not LazyAttributes:
        return None
    pending: LazyStatus = getattr(attributes, "_pending")  # noqa: B009 - of which the SDK's type knows nothing
    return pending.size_bytes
