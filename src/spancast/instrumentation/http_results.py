"""Recording of results of SDKs whose models drop fields: their HTTP response is kept while the call runs.

For SDKs over httpx whose stream object has the response, and reads it through an iterator that can be replaced.
"""

from __future__ import annotations

from typing import Any

from spancast.instrumentation.http_body import record_body
from spancast.instrumentation.stream_recorder import AsyncRecordingIterator, record_iterator
from spancast.tracing.traced_call import TracedCall


def record_http_result(traced_call: TracedCall, result: Any, iterator: str) -> None:  # noqa: ANN401 - the SDK's result
    """Record a response from the bytes of the call's HTTP response, in place.

    Args:
        traced_call: The call.
        result: A parsed response, or a stream object.
        iterator: The attribute of stream objects that holds their iterator.
    """
    response, traced_call.http_response = traced_call.http_response, None
    if response is None:
        traced_call.end_with(result)
        return
    traced_call.set_request_bytes(response.request.content)
    chunks = getattr(result, iterator, None)
    if chunks is None and response.is_closed:
        traced_call.end_with_bytes(response.content)
    elif chunks is None:
        traced_call.end_with(result)
    elif hasattr(chunks, "__anext__"):
        setattr(result, iterator, AsyncRecordingIterator(chunks, record_body(traced_call, response)))
    else:
        setattr(result, iterator, record_iterator(chunks, record_body(traced_call, response)))
