"""Many attributes onto a span at once.

The SDK's ``set_attributes`` looks at every value again, through abstract classes: half a
microsecond each. Here they are of the exact types an attribute has, so one ``dict.update``
does. Must never: write past a span's limits, or onto an ended span.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import Span

from spancast.model.exchange import Attributes

_SCALARS: Final = frozenset({str, bool, int, float})


def write(span: Span, attributes: Attributes) -> None:
    """Do what ``span.set_attributes`` does; literally that where a limit or another SDK asks for more."""
    held: Any = getattr(span, "_attributes", None)
    ready = _ready(attributes) if type(held) is BoundedAttributes else None
    if ready is None or not _is_taken(held, ready):
        span.set_attributes(attributes)


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


def _is_taken(held: Any, ready: dict[str, Any]) -> bool:  # noqa: ANN401 - its attributes are the SDK's own business
    try:
        if held._immutable or held.max_value_len is not None:  # noqa: SLF001 - as above
            return False
        with held._lock:  # noqa: SLF001 - as above
            if held.maxlen is not None and len(held._dict) + len(ready) > held.maxlen:  # noqa: SLF001 - as above
                return False
            held._dict.update(ready)  # noqa: SLF001 - as above
    except AttributeError:
        # Another version of the SDK keeps them differently.
        return False
    return True
