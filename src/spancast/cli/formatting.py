"""Numbers, times and JSON, formatted for people and programs."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

_KIB: Final = 1024.0
_UNITS: Final = ("B", "KiB", "MiB", "GiB")
_DURATION_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_DAY_S: Final = 86_400.0
_MIN_IN_UNIT: Final = 1.5
_DROPPED: Final[Mapping[str, str]] = {
    "expired": "older than the spool's max_age",
    "spool_full": "the spool was full",
}


def why_dropped(reason: str) -> str:
    """Return a description of the spool's drop ``reason``."""
    return _DROPPED.get(reason, reason)


def number(count: int, one: str) -> str:
    """Return ``1 span`` or ``1,200 spans``."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Return bytes as ``5.0 KiB``."""
    unit = 0
    while count >= _KIB and unit < len(_UNITS) - 1:
        count /= _KIB
        unit += 1
    return f"{count:.0f} B" if not unit else f"{count:.1f} {_UNITS[unit]}"


def lapse(seconds: float) -> str:
    """Return a duration in its largest unit: ``45 s``, ``12 min``, ``3 h``, ``9 d``."""
    for unit_s, unit in _DURATION_UNITS:
        if seconds >= unit_s * _MIN_IN_UNIT or unit_s == 1:
            return f"{max(seconds, 0) / unit_s:.0f} {unit}"
    return ""


def moment(at_s: float, now_s: float | None = None) -> str:
    """Return Unix seconds in local time: ``14:05:09`` within a day, else ``11-22 14:05``."""
    local = datetime.fromtimestamp(at_s, tz=UTC).astimezone()
    is_recent = abs((time.time() if now_s is None else now_s) - at_s) < _DAY_S
    return f"{local:%H:%M:%S}" if is_recent else f"{local:%m-%d %H:%M}"


def iso(at_s: float) -> str | None:
    """Return Unix seconds as an ISO 8601 time in UTC, None for 0."""
    text = datetime.fromtimestamp(at_s, tz=UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z") if at_s else None


def as_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return ``value`` as ASCII JSON, which any output encoding can hold."""
    return json.dumps(value, indent=2)


def moment_of(text: str) -> float:
    """Return the Unix seconds of ``text``: a duration before now, or a date with or without time and time zone.

    Without time zone, local time is assumed.

    Raises:
        argparse.ArgumentTypeError: ``text`` is neither a duration nor a date.
    """
    # Imports pydantic, which takes as long as everything else that `spancast traces` needs.
    from spancast.destinations.field_types import DURATION_FORM, read_duration  # noqa: PLC0415 - see above

    try:
        return time.time() - read_duration(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected {DURATION_FORM}, or a date such as `2026-11-20T14:00`, got {text!r}"
        ) from None
