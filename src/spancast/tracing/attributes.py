"""Many attributes onto a span at once.

The SDK's ``set_attributes`` looks at every value again, through abstract classes: half a
microsecond each. Here they are of the exact types an attribute has, so one ``dict.update``
does. Must never: write past a span's limits, or onto an ended span that somebody has read.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import Span

from spancast.model.call import Attributes

_SCALARS: Final = frozenset({str, bool, int, float})
_PARTS: Final = ("_dict", "_immutable", "_lock", "dropped", "maxlen", "max_value_len")
_IS_KNOWN: Final = all(name in vars(BoundedAttributes()) for name in _PARTS)
"""Whether this version of the SDK keeps attributes as this module knows; else everything goes by its methods."""
_SDK_SPAN: Final[Any] = getattr(sdk, "_Span", None)


def is_known(held: object) -> bool:
    """Tell whether ``held`` is the SDK's own keeping of attributes, in a version known here."""
    return _IS_KNOWN and type(held) is BoundedAttributes


def held_by(span: object) -> Any:  # noqa: ANN401 - the SDK's ``BoundedAttributes``
    """Return the object in which a span of the SDK keeps its attributes; None for any other span or version.

    A span that wraps one of the SDK's (logfire's) also answers to ``_attributes``, but an assignment to it does
    not reach the span inside.
    """
    held = getattr(span, "_attributes", None) if type(span) is _SDK_SPAN else None
    return held if is_known(held) else None


def write(span: Span, attributes: Attributes) -> None:
    """Do what ``span.set_attributes`` does; literally that where a limit or another SDK asks for more."""
    held = held_by(span)
    # Older SDKs leave what an ended span holds open to changes.
    if held is None or held._immutable or not span.is_recording():  # noqa: SLF001 - its attributes are the SDK's own business
        span.set_attributes(attributes)
        return
    ready = _ready(attributes)
    with held._lock:  # noqa: SLF001 - as above
        is_taken = ready is not None and _is_taken(held, ready)
    if not is_taken:
        span.set_attributes(attributes)


def add(held: Any, attributes: Attributes) -> None:  # noqa: ANN401 - of which ``is_known`` is true, by its fields
    """Add to what an ended span holds, by its limits; without its lock, which whoever looks at it may hold."""
    ready = _ready(attributes)
    if ready is not None and _is_taken(held, ready):
        return
    kept = dict_of(held)
    # A name that is set again counts as the newest, as the SDK has it.
    given = {**{name: value for name, value in kept.items() if name not in attributes}, **attributes}
    bounded: Any = BoundedAttributes(held.maxlen, given, max_value_len=held.max_value_len)
    kept.clear()
    kept.update(bounded)
    held.__dict__["dropped"] += bounded.dropped


def _ready(attributes: Attributes) -> dict[str, Any] | None:
    """Return ``attributes`` as a span holds them, lists as tuples; None where a value is of another type."""
    lists: dict[str, Any] = {}
    for name, value in attributes.items():
        if type(value) in _SCALARS:
            continue
        if type(value) is not list or not {*map(type, value)} <= _SCALARS:
            return None
        lists[name] = tuple(value)
    return {**attributes, **lists} if lists else attributes


def _is_taken(held: Any, ready: dict[str, Any]) -> bool:  # noqa: ANN401 - as above
    kept = dict_of(held)
    if held.max_value_len is not None or (held.maxlen is not None and len(kept) + len(ready) > held.maxlen):
        return False
    kept.update(ready)
    return True


def dict_of(held: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Return the dict itself, of what ``is_known`` is true of."""
    # By its fields: a look at what is unread would have it read.
    return held.__dict__["_dict"]
