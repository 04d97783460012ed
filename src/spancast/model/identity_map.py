"""A mapping by identity, for objects that define equality but no hash (logfire's providers)."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class IdentityMap(Generic[K, V]):
    """Values by the identity of their keys; an entry is removed when its key is collected.

    A key that does not support weak references is kept for the life of the map.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[Callable[[], K | None], V]] = {}

    def get(self, key: K) -> V | None:
        """Return the value of ``key``, None if there is none."""
        entry = self._entries.get(id(key))
        return entry[1] if entry is not None and entry[0]() is key else None

    def set(self, key: K, value: V) -> None:
        """Set the value of ``key``."""
        key_id = id(key)
        reference: Callable[[], K | None]
        try:
            reference = weakref.ref(key, lambda _: self._entries.pop(key_id, None))
        except TypeError:
            reference = lambda: key  # noqa: E731
        self._entries[key_id] = reference, value

    def values(self) -> list[V]:
        """Return the values of all keys that still exist."""
        return [value for _, value in list(self._entries.values())]
