"""The protocol of a dialect: pure readers of one wire format, and the properties of its provider.

A dialect is lenient: an unknown field is recorded, a malformed one is left out, and no
provider data raises an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from spancast.dialects.error_body import http_error_attributes
from spancast.model.call import Attributes, Request, Response

RESPONSE_ID: Final = "response_id"
"""The parameter that names a stored response in the request of a call that fetches it."""


class StreamReader(Protocol):
    """A reader that assembles one response from the chunks of a stream, however they are split.

    It may also be a ``TextReader`` (``delta_fast_path``), which reads JSON text faster than ``feed`` reads the
    decoded chunks.
    """

    __slots__ = ()

    def feed(self, chunk: object) -> None:
        """Process the next chunk: a dict of wire JSON or the SDK's object."""
        ...

    def result(self) -> Response:
        """Return the response received so far; once complete, it equals the response without streaming."""
        ...

    @property
    def held_bytes(self) -> int | None:
        """Return the size of what it holds, in bytes, for ``result`` on another thread; None to call it at once.

        At once if it holds an object of the caller, who could change it.
        """
        return None

    def is_usage_only(self, chunk: object) -> bool:  # noqa: ARG002 - the default
        """Return whether ``chunk`` has nothing but the usage that ``Dialect.ask_for_usage`` requested."""
        return False


class Dialect(Protocol):
    """The wire format of one kind of endpoint. Inherit from it; the defaults suit most formats."""

    __slots__ = ()

    name: str
    """The name in settings and arguments: ``instrument(dialect="anthropic_messages")``."""

    provider: str
    """``gen_ai.provider.name`` if the provider of the host is unknown."""

    is_shared: bool = False
    """Whether servers of any provider use this format; then the provider of an unknown host is ``_OTHER``."""

    operation: str = "chat"
    """``gen_ai.operation.name`` of its calls."""

    is_stored: bool = False
    """Whether providers store its responses; a call that fetches one is linked to the span that began it."""

    end_marker: str | None = None
    """The data of the server-sent event that ends a stream, if it is not JSON."""

    last_events: frozenset[str] = frozenset()
    """The values of ``type`` of the events that end a stream."""

    answers: str | None = None
    """``module:NAME`` of its ``CannedAnswers``, imported by the replay server only."""

    def for_request(self, body: Mapping[str, Any]) -> Dialect:  # noqa: ARG002 - the default
        """Return the dialect of a request: another one if one path has several operations."""
        return self

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body; messages and tools only if ``content``.

        Attributes are read in any case: ``model/privacy.py`` decides which of them are recorded.
        """
        ...

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response: a dict of wire JSON, the SDK's object, or text."""
        ...

    def new_stream(self, *, content: bool) -> StreamReader:
        """Return a reader for one stream."""
        ...

    def span_name(self, model: str | None) -> str:
        """Return the default name of the span of a call."""
        return f"{self.operation} {model}" if model else self.operation

    def error_attributes(self, error: BaseException) -> Attributes:
        """Return the attributes of an SDK's exception: HTTP status, the provider's error code.

        Without ``error.type`` among them, the class of the exception is used.
        """
        return http_error_attributes(error)

    def is_last(self, event: Mapping[str, Any]) -> bool:
        """Return whether ``event``, wire JSON, ends a stream."""
        return event.get("type") in self.last_events

    def is_background(self, body: Mapping[str, Any]) -> bool:  # noqa: ARG002 - the default
        """Return whether the response is fetched later; then its id is recorded before the call returns."""
        return False

    def ask_for_usage(self, body: Mapping[str, Any]) -> Mapping[str, Any] | None:  # noqa: ARG002 - the default
        """Return body fields that request the usage of a stream; None if it is requested already or not supported."""
        return None
