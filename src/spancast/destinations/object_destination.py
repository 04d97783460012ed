"""A destination of the user's own: any object with ``deliver(payload, timeout_s)``.

What else it may have: ``test_connection(timeout_s)``, ``close()``, and ``place``, a text that says where it sends.
"""

from __future__ import annotations

from typing import Any, Final, Literal, cast, get_args

from pydantic import Field

from spancast.destinations.config import DestinationConfig
from spancast.destinations.place import Place, program
from spancast.destinations.protocol import Delivered, Destination, Encoder, Outcome, Payload

_OPTIONAL: Final = ("test_connection", "close")


class ObjectConfig(DestinationConfig, frozen=True):
    """An object of the user's with the rules every destination has."""

    type: Literal["object"] = "object"
    destination: Any = Field(exclude=True, repr=False, description="The object.")

    def place(self) -> Place:
        """Return ``place`` of the object, else its class and this program: only the same program delivers for it."""
        kind = cast("type[Any]", type(self.destination))
        place = getattr(self.destination, "place", None)
        address = {"class": f"{kind.__module__}:{kind.__qualname__}"}
        return Place(address={**address, "place": place} if isinstance(place, str) else {**address, "in": program()})


def fault_of(destination: object) -> str | None:
    """Return what an object lacks to be a destination; None if it is one."""
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
    return None


class ObjectDestination(Destination):
    """The user's object as a destination: what it does not have does nothing."""

    def __init__(self, destination: Any, encoder: Encoder) -> None:  # noqa: ANN401 - any object
        self._destination = destination
        self._view = encoder

    @property
    def encoder(self) -> Encoder:
        """Return the view of its payloads."""
        return self._view

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Return what the object says became of the batch; None means that it took it."""
        return self._outcome(self._destination.deliver(payload, timeout_s), "deliver")

    def test_connection(self, timeout_s: float) -> Outcome:
        """Return what the object says."""
        if not hasattr(self._destination, "test_connection"):
            return Delivered(message="not tested: the object has no `test_connection`")
        return self._outcome(self._destination.test_connection(timeout_s), "test_connection")

    def close(self) -> None:
        """Close the object, if it can be closed."""
        if hasattr(self._destination, "close"):
            self._destination.close()

    def _outcome(self, outcome: object, method: str) -> Outcome:
        if outcome is None:
            return Delivered()
        if not isinstance(outcome, get_args(Outcome)):
            expected = ", ".join(kind.__name__ for kind in get_args(Outcome))
            raise TypeError(f"{method} returned {type(outcome).__name__}, expected {expected} or None")
        return outcome  # pyright: ignore[reportReturnType] - one of Outcome, as just asked
