"""Many attributes onto a span at once.

The SDK's ``set_attributes`` looks at every value again, through abstract classes: half a
microsecond each. Here they are of the exact types an attribute has, so one ``dict.update``
does. Must never: write past a span's limits, or onto an ended span.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import Span

from spancast.model.exchange import Attributes, AttributeValue

_SCALARS: Final = frozenset({str, bool, int, float})


def write(span: Span, attributes: Attributes) -> None:
    """Do what ``span.set_attributes`` does; literally that where a limit, or another SDK, asks for more."""
    held: Any = getattr(span, "_attributes", None)
    try:
        if type(held) is BoundedAttributes and held.max_value_len is None and not held._immutable:
            written: dict[str, Any] = held._dict
            if held.maxlen is None or len(written) + len(attributes) <= held.maxlen:
                ready = _ready(attributes)
                if ready is not None:
                    with held._lock:
                        written.update(ready)
                    return
    except AttributeError:
        # Another version of the SDK keeps them differently.
        pass
    span.set_attributes(attributes)


def _ready(attributes: Attributes) -> Mapping[str, object] | None:
    """Return ``attributes`` as a span holds them, lists as tuples; None where a value is none of an attribute."""
    lists: dict[str, tuple[AttributeValue, ...]] = {}
    for name, value in attributes.items():
        kind = type(value)
        if kind in _SCALARS:
            continue
        if kind is not list or not all(type(item) in _SCALARS for item in value):  # pyright: ignore
            return None
        lists[name] = tuple(value)  # pyright: ignore
    return {**attributes, **lists} if lists else attributes
