"""The seam every dialect fills: three readers, all pure.

A dialect is lenient: an unknown field goes onto the span, a malformed one is left out,
and nothing raises for what a provider sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from spancast.model.call import Request, Response


class StreamReader(Protocol):
    """Assembles one streamed answer from its chunks, for any split of chunks.

    It may be a ``TextReader`` (``event_run``) as well, which does with JSON text, faster, what ``feed`` does with
    what it says.
    """

    def feed(self, chunk: object) -> None:
        """Take the next chunk: a dict of wire JSON or the SDK's object for it."""
        ...

    def result(self) -> Response:
        """Return what has been received; equals the unstreamed answer once complete."""
        ...


class Dialect(Protocol):
    """One wire format of one kind of endpoint."""

    name: str
    """The name users write: ``instrument(dialect="anthropic_messages")``."""

    provider: str
    """``gen_ai.provider.name`` where the host does not tell."""

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
