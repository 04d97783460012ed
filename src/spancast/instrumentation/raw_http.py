"""Recording of completion calls that a program makes with an HTTP library, without an SDK.

A request is known by its URL and the fields of its body (``model/completion_urls.py``). It is sent as it is, trace keys
in it included. Inside a call of an instrumented SDK nothing is recorded here, so that a call has one span.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from spancast.diagnostics import counters
from spancast.dialects.registry import find_dialect
from spancast.instrumentation.patching import Hook, Method
from spancast.instrumentation.stainless import session_header
from spancast.instrumentation.wrap_call import CallDescription, wrap_call
from spancast.model import json_codec
from spancast.model.completion_urls import endpoint_of, may_be_completion
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import CURRENT_CALL, TracedCall

Concerns: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], bool]
"""Returns whether a call of a library's method, by its arguments, is of interest."""


def wrap_request(description: CallDescription, concerns: Concerns) -> tuple[Hook, Hook]:
    """Return the wrappers of a method that makes a request, of a plain one and of a coroutine function.

    Calls that are not of interest pass at once: they are most of a program's HTTP calls.
    """
    hooks = wrap_call(description)
    return _only_of_interest(hooks.sync, concerns), _only_of_interest(hooks.asynchronous, concerns)


def _only_of_interest(recording: Hook, concerns: Concerns) -> Hook:
    def hook(method: Method) -> Method:
        recorded = recording(method)

        def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the library's own result
            try:
                is_wanted = concerns(args, kwargs)
            except (AttributeError, TypeError):
                # Wrong arguments; the library reports them.
                is_wanted = False
            return (recorded if is_wanted else method)(owner, *args, **kwargs)

        return wrapper

    return hook


def is_of_interest(path: str) -> bool:
    """Return whether a ``POST`` may be a completion call that nothing above records; a fast answer for all others."""
    if not (may_be_completion(path) or CALL_TRACER.settings.completion_urls):
        return False
    outer = CURRENT_CALL.get()
    return outer is None or outer.is_function or not outer.is_running


def start_request(url: str, body: object, headers: object) -> TracedCall | None:
    """Start the call of a request; None if it is no completion call.

    Args:
        url: The absolute URL.
        body: The JSON text of the body, or its mapping, which is parsed at once. A body of another type would have to
            be read before the library does it; then the request is not recorded, and counted.
        headers: The headers of the request.
    """
    own = CALL_TRACER.settings.completion_urls
    if own and not (may_be_completion(url.partition("?")[0]) or any(one.matches(url.partition("?")[0]) for one in own)):
        # With URLs of one's own, every ``POST`` gets here.
        return None
    body = bytes(body) if isinstance(body, bytearray) else body
    decoded: Any = json_codec.decode(body) if isinstance(body, (str, bytes)) else body
    if not json_codec.is_mapping(decoded):
        if not isinstance(body, (str, bytes)) and body is not None:
            counters.add("requests_not_read")
        return None
    endpoint = endpoint_of(url, decoded, own)
    dialect = None if endpoint is None else find_dialect(endpoint.dialect)
    if endpoint is None or dialect is None:
        return None
    request: Mapping[str, Any] = {**decoded, **endpoint.in_path}
    is_object = decoded is body
    traced_call = CALL_TRACER.start_call(
        dialect.for_request(request), request, endpoint.server, session_header((headers, None)), parse_now=is_object
    )
    if traced_call is not None and traced_call.records_response and not is_object:
        traced_call.set_request_bytes(_as_bytes(body), overridden=endpoint.in_path or None)
    return traced_call


def _as_bytes(text: object) -> bytes:
    return text.encode("utf-8", "replace") if isinstance(text, str) else bytes(cast("bytes", text))


def decoder_of(encoding: str | None) -> Callable[[bytes], bytes] | None:
    """Return a function that decodes a body that the caller reads compressed; None if there is no ``encoding``."""
    if not encoding:
        return None

    def decoded(raw: bytes) -> bytes:
        # spancast depends on urllib3; it decodes what is installed for it.
        import io  # noqa: PLC0415 - rarely needed

        import urllib3  # noqa: PLC0415 - rarely needed

        try:
            return urllib3.HTTPResponse(io.BytesIO(raw), headers={"content-encoding": encoding}).data
        except urllib3.exceptions.HTTPError:
            return b""

    return decoded
