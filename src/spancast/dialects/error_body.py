"""The error envelopes of all dialects as a ``Failure``.

One reader for all, because gateways answer in one dialect with the error of another.
Must never: raise, or make a free text the type of a failure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.model import semconv
from spancast.model.call import Attributes, Failure

OTHER: Final = "_OTHER"
"""``error.type`` where the provider gives no code (semantic conventions, ``error.type``)."""

_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def read_failure(error: object, outer: Mapping[str, Any], *, is_failed: bool = False) -> Failure | None:
    """Return the failure told by an ``error`` field and the object ``outer`` around it.

    None where there is no error, unless ``is_failed``: the answer says so by other means.

    Its type is the first that is a code: OpenRouter's ``error_type`` (beside the error, in it, or in
    its metadata), then ``code``, ``http_status`` and ``type`` of the error.
    """
    if error is None and not is_failed:
        return None
    told = accessors.fields(error)
    message = error if isinstance(error, str) else told.get("message")
    if not told and not message and not is_failed:
        return None
    candidates = (
        outer.get("error_type"),
        told.get("error_type"),
        accessors.fields(told.get("metadata")).get("error_type"),
        told.get("code"),
        told.get("http_status"),
        told.get("type"),
    )
    code = next((code for code in map(_code, candidates) if code), OTHER)
    return Failure(type=code, message=accessors.text(message) or "")


def _code(value: object) -> str | None:
    if isinstance(value, str):
        return value if _CODE.fullmatch(value) else None
    number = accessors.count(value)
    return None if number is None or not 0 <= number < 1_000 else str(number)  # noqa: PLR2004 - HTTP statuses


def http_error_attributes(error: BaseException) -> Attributes:
    """Return HTTP status and the provider's code of an exception, by the names most SDKs give them."""
    found: Attributes = {}
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        found[semconv.RESPONSE + "status_code"] = status
    code = getattr(error, "code", None)
    if isinstance(code, (str, int)) and code != status:
        found[semconv.RESPONSE + "error_code"] = str(code)
    return found
