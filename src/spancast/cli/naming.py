"""Routes of a spool by the names that users write.

A name means the destination of the present configuration. Another one of that name (another
program's, or one before its address or account was changed) is written with its fingerprint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from spancast.cli.command import WRONG_USE, CommandError
from spancast.cli.formatting import cut
from spancast.config.field_errors import unknown
from spancast.destinations.config import DestinationConfig
from spancast.destinations.place import DIGITS
from spancast.export.spool.protocol import route_key, route_name

_FINGERPRINT: Final = DIGITS + len("@")


def keys_of(destinations: Mapping[str, DestinationConfig]) -> dict[str, str]:
    """Return the routes of ``destinations`` by their names."""
    return {name: route_key(name, config.fingerprint()) for name, config in destinations.items()}


class Naming:
    """Names for ``routes`` of a spool; ``configured`` are the destinations of the present configuration, if any."""

    def __init__(self, routes: Sequence[str], configured: Mapping[str, DestinationConfig]) -> None:
        self._names = {key: name for name, key in keys_of(configured).items()}
        self.routes = tuple(routes)
        self.configured = frozenset(configured)
        shared = Counter([*map(route_name, routes), *configured])
        for key in routes:
            name = route_name(key)
            self._names.setdefault(key, name if shared[name] == 1 else key)

    def shown(self, route: str) -> str:
        """Return the name of ``route``."""
        return self._names.get(route, route)

    def is_elsewhere(self, route: str) -> bool:
        """Tell whether ``route`` (or a name of one) is another one than its name means, or one of several."""
        return self.shown(route) != route_name(route)

    def route(self, name: str) -> str:
        """Return the route in the spool that ``name`` means.

        Raises:
            CommandError: None, or one of several.
        """
        known = {self.shown(key): key for key in self.routes}
        found = known.get(name) or (name if name in self.routes else None)
        if found is None:
            raise CommandError(unknown("destination", name, known), WRONG_USE)
        return found


def shortened(name: str, width: int) -> str:
    """Return ``name`` in ``width`` characters; what tells it from others of its name stays."""
    if "@" not in name:
        return cut(name, width)
    return cut(route_name(name), width - _FINGERPRINT) + name[-_FINGERPRINT:]
