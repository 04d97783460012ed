"""Parser of error bodies, common to all dialects: gateways return the errors of other dialects.

Invariants: never raises; free text is never an error type (``test_error_body.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.sanitize import to_json_string
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, Failure, Response

_CODES: Final = frozenset({"code", "type", "error_type", "http_status"})
FIRST_ERROR: Final = 400
"""The first HTTP status of an error."""
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def read_failure(error: object, outer: Mapping[str, Any], *, is_failed: bool = False) -> Failure | None:
    """Return the failure in an ``error`` field of the object ``outer``.

    None if there is no error, unless ``is_failed``: another field of the response reports a failure.

    The type is the first of these that is a code: OpenRouter's ``error_type`` (beside the error, in it, or in
    its metadata), then ``code``, ``http_status`` and ``type`` of the error.
    """
    if error is None and not is_failed:
        return None
    fields = accessors.fields(error)
    message = error if isinstance(error, str) else fields.get("message")
    if not fields and not message and not is_failed:
        return None
    candidates = (
        outer.get("error_type"),
        fields.get("error_type"),
        accessors.fields(fields.get("metadata")).get("error_type"),
        fields.get("code"),
        fields.get("http_status"),
        fields.get("type"),
    )
    code = next((code for code in map(_code, candidates) if code), semconv.OTHER)
    return Failure(type=code, message=accessors.text(message) or "")


def _code(value: object) -> str | None:
    if isinstance(value, str):
        return value if _CODE.fullmatch(value) else None
    number = accessors.count(value)
    return None if number is None or not 0 <= number < 1_000 else str(number)  # noqa: PLR2004 - HTTP statuses


def error_attributes(error: object, failure: Failure | None) -> Attributes:
    """Return the fields of an ``error`` that are not in ``failure``, which was read from it, as one JSON attribute.

    They explain it: Groq's ``failed_generation``, Azure's ``innererror``, OpenRouter's ``metadata``, the other codes.
    """
    if failure is None:
        return {}
    rest = {
        name: value
        for name, value in accessors.fields(error).items()
        if not json_codec.is_absent(value)
        and not (name == "message" and value == failure.message)
        and not (name in _CODES and _code(value) == failure.type)
    }
    return {semconv.RESPONSE + "error": to_json_string(rest)} if rest else {}


def _content(response: Any) -> object:  # noqa: ANN401 - a response of httpx or another library
    """Return the body of ``response`` if httpx has read it."""
    try:
        return response.content if getattr(response, "is_closed", False) else None
    except RuntimeError:
        # It was closed before it was read.
        return None


def refused_response(status: int, body: object) -> Response:
    """Return the response of a request that was refused with HTTP ``status``; ``body`` is its decoded JSON or None.

    The type of the failure is the provider's code, else the status.
    """
    attributes, failure = _read(status, body)
    if failure is None or failure.type == semconv.OTHER:
        failure = Failure(type=str(status), message="" if failure is None else failure.message)
    return Response(attributes=attributes, failure=failure)


def _read(status: object, body: object) -> tuple[Attributes, Failure | None]:
    """Return what the body of an error says: attributes, and the failure."""
    found: Attributes = {}
    if isinstance(status, int):
        found[semconv.RESPONSE + "status_code"] = status
    outer = accessors.fields(body)
    # The openai SDK unwraps the error. A body of success is a rejected answer, or an event of a stream with an error.
    is_answer = isinstance(status, int) and status < FIRST_ERROR
    inner: object = outer.get("error") or (None if is_answer else outer)
    failure = read_failure(inner, outer)
    if failure is not None and failure.type == str(status):
        # The HTTP status as code says less than the type of the error (llama.cpp), or the exception's class.
        kind = _code(accessors.fields(inner).get("type"))
        failure = failure if kind is None else replace(failure, type=kind)
    if json_codec.is_mapping(inner):
        found.update(error_attributes(inner, failure))
    if request_id := accessors.text(outer.get("request_id")):
        found[semconv.RESPONSE + "request_id"] = request_id
    return found, failure


def http_error_attributes(error: BaseException) -> Attributes:
    """Return the HTTP status and what the body says, of an exception with the attribute names of most SDKs.

    ``error.type`` is the provider's code, as in a response that reports an error; without one it is not set.
    """
    response: Any = getattr(error, "response", None)
    # Of the object only: as properties these names are deprecated in aiohttp and websockets.
    own = vars(error)
    status = getattr(error, "status_code", getattr(response, "status_code", own.get("status")))
    body: Any = getattr(error, "body", None) if hasattr(error, "body") else _content(response)
    if body is None and isinstance(details := getattr(error, "details", None), str):
        # AI21.
        body = details
    found, failure = _read(status, json_codec.decode(body) if isinstance(body, (str, bytes)) else body)
    if failure is not None and failure.type not in (semconv.OTHER, str(status)):
        found[semconv.ERROR_TYPE] = failure.type
    code = own.get("code")
    if isinstance(code, (str, int)) and str(code) != str(status):
        found[semconv.RESPONSE + "error_code"] = str(code)
    return found
