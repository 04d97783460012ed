"""A user's own destination: any object with ``deliver(payload, timeout_s)`` (``protocol.DeliversPayloads``)."""

from __future__ import annotations

from typing import Any, Final, Literal, cast, get_args

from pydantic import Field

from spancast.destinations.config import DestinationConfig
from spancast.destinations.place import Place, program
from spancast.destinations.protocol import Delivered, Encoder, Outcome, Payload

_OPTIONAL: Final = ("test_connection", "close")
_LIMITS: Final = ("max_batch_spans", "max_batch_bytes")


class ObjectConfig(DestinationConfig, frozen=True):
    """A user's object with the common fields of all destinations."""

    type: Literal["object"] = "object"
    destination: Any = Field(exclude=True, repr=False, description="The object.")

    def place(self) -> Place:
        """Return ``place`` of the object, else its class and this program, so that no other program delivers to it."""
        kind = cast("type[Any]", type(self.destination))
        place = getattr(self.destination, "place", None)
        address = {"class": f"{kind.__module__}:{kind.__qualname__}"}
        return Place(address={**address, "place": place} if isinstance(place, str) else {**address, "in": program()})


def fault_of(destination: object) -> str | None:
    """Return the reason why an object is no destination; None if it is one."""
    kind = type(destination).__name__
    if isinstance(destination, type):
        return f"must be an object with `deliver`, not its class (given: {destination.__name__})"
    if not callable(getattr(destination, "deliver", None)):
        hint = (
            "; a SpanExporter is given by its entry point: `type: exporter`" if hasattr(destination, "export") else ""
        )
        return f"has no method `deliver(payload, timeout_s)` (given: {kind}){hint}"
    for name in _OPTIONAL:
        if hasattr(destination, name) and not callable(getattr(destination, name)):
            return f"`{name}` must be a method (given: {type(getattr(destination, name)).__name__})"
    for name in _LIMITS:
        limit = getattr(destination, name, None)
        if limit is not None and (type(limit) is not int or limit < 1):
            given = limit if isinstance(limit, (int, float)) else type(limit).__name__
            return f"`{name}` must be a positive integer or None (given: {given})"
    return None


class ObjectDestination:
    """A user's object as a destination; optional methods and attributes may be missing."""

    def __init__(self, destination: Any, encoder: Encoder) -> None:  # noqa: ANN401 - any object
        self.encoder = encoder
        self.max_batch_spans: int | None = getattr(destination, "max_batch_spans", None)
        self.max_batch_bytes: int | None = getattr(destination, "max_batch_bytes", None)
        self._destination = destination

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Return the outcome that the object returns; None is ``Delivered()``."""
        return self._outcome(self._destination.deliver(payload, timeout_s), "deliver")

    def test_connection(self, timeout_s: float) -> Outcome:
        """Return the outcome that the object returns."""
        if not hasattr(self._destination, "test_connection"):
            return Delivered(message="not tested: the object has no `test_connection`")
        return self._outcome(self._destination.test_connection(timeout_s), "test_connection")

    def close(self) -> None:
        """Close the object if it has ``close``."""
        if hasattr(self._destination, "close"):
            self._destination.close()

    def _outcome(self, outcome: object, method: str) -> Outcome:
        if outcome is None:
            return Delivered()
        if not isinstance(outcome, get_args(Outcome)):
            expected = ", ".join(kind.__name__ for kind in get_args(Outcome))
            raise TypeError(f"{method} returned {type(outcome).__name__}, expected {expected} or None")
        return outcome  # pyright: ignore[reportReturnType] - checked above
