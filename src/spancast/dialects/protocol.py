"""The protocol of a dialect: the readers of one wire format, and what is particular to its provider. All pure.

A dialect is lenient: an unknown field goes onto the span, a malformed one is left out,
and nothing raises for what a provider sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from spancast.dialects.error_body import http_error_attributes
from spancast.model.call import Attributes, Request, Response


class StreamReader(Protocol):
    """Assembles one streamed answer from its chunks, for any split of chunks.

    It may be a ``TextReader`` (``event_run``) as well, which does with JSON text, faster, what ``feed`` does with
    what it says.
    """

    __slots__ = ()

    def feed(self, chunk: object) -> None:
        """Take the next chunk: a dict of wire JSON or the SDK's object for it."""
        ...

    def result(self) -> Response:
        """Return what has been received; equals the unstreamed answer once complete."""
        ...

    def is_usage_only(self, chunk: object) -> bool:  # noqa: ARG002 - the default
        """Return whether ``chunk`` is the one that ``Dialect.ask_for_usage`` asked for and carries nothing else."""
        return False


class Dialect(Protocol):
    """One wire format of one kind of endpoint. Inherit from it: what has a default here is what most formats need."""

    __slots__ = ()

    name: str
    """The name users write: ``instrument(dialect="anthropic_messages")``."""

    provider: str
    """``gen_ai.provider.name`` if the host is of no known provider."""

    operation: str = "chat"
    """``gen_ai.operation.name`` of its calls."""

    end_marker: str | None = None
    """The data of a server-sent event that ends a stream and is no JSON."""

    last_events: frozenset[str] = frozenset()
    """The ``type`` of the events that end a stream."""

    answers: str | None = None
    """``module:NAME`` of its ``CannedAnswers`` for the replay server; imported by tests only."""

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body; messages and tools only if ``content``.

        Attributes are read either way: ``model/privacy.py`` decides what of them may be recorded.
        """
        ...

    def read_response(self, answer: object, *, content: bool) -> Response:
        """Read a whole answer: a dict of wire JSON, the SDK's object, or text."""
        ...

    def new_stream(self, *, content: bool) -> StreamReader:
        """Return a reader for one streamed answer."""
        ...

    def span_name(self, model: str | None) -> str:
        """Return the name of the span of a call, unless the caller gave one."""
        return f"{self.operation} {model}" if model else self.operation

    def error_attributes(self, error: BaseException) -> Attributes:
        """Return what an exception of an SDK says beside its message: HTTP status, the provider's code.

        ``error.type`` may be among them; else it is the class of the exception.
        """
        return http_error_attributes(error)

    def ask_for_usage(self, body: Mapping[str, Any]) -> Mapping[str, Any] | None:  # noqa: ARG002 - the default
        """Return the body fields that make a stream report its usage; None if it does, or there is nothing to ask."""
        return None
