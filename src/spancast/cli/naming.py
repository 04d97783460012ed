"""Names of the spool's destinations in the CLI.

A plain name is the destination of the current configuration. Another destination of that name (of another
program, or with an earlier address or account) is shown as the name with its fingerprint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from spancast.cli.command import USAGE_ERROR, CommandError
from spancast.cli.terminal import cut
from spancast.config.field_errors import unknown
from spancast.destinations.config import DestinationConfig
from spancast.destinations.place import DIGITS
from spancast.export.spool.protocol import route_key, route_name

_FINGERPRINT: Final = DIGITS + len("@")


def keys_of(destinations: Mapping[str, DestinationConfig]) -> dict[str, str]:
    """Return the route key of each destination by name."""
    return {name: route_key(name, config.fingerprint()) for name, config in destinations.items()}


class Naming:
    """Names of the spool's ``routes``; ``configured`` are the destinations of the current configuration, if any."""

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
        """Return whether ``route`` (a key or a name) cannot be given by its name alone."""
        return self.shown(route) != route_name(route)

    def route(self, name: str) -> str:
        """Return the route key in the spool for ``name``.

        Raises:
            CommandError: The name is unknown or ambiguous.
        """
        known = {self.shown(key): key for key in self.routes}
        found = known.get(name) or (name if name in self.routes else None)
        if found is None:
            raise CommandError(unknown("destination", name, known), USAGE_ERROR)
        return found


def shortened(name: str, width: int) -> str:
    """Return ``name`` in at most ``width`` characters; a fingerprint is kept."""
    if "@" not in name:
        return cut(name, width)
    return cut(route_name(name), width - _FINGERPRINT) + name[-_FINGERPRINT:]
