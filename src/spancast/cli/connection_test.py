"""Connection tests of destinations, run in parallel with a time limit each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from spancast.destinations import registry
from spancast.destinations.config import DestinationConfig
from spancast.destinations.protocol import Delivered, Failed, Outcome, PartlyDelivered, Rejected, Retry
from spancast.diagnostics import never_raise
from spancast.errors import ConfigError

_GRACE_S: Final = 1.0
"""Extra time for a test: connecting and responding have a limit each."""
_LOCAL_S: Final = 10.0
"""Limit for destinations without a ``timeout``, which write to the local machine."""


@dataclass(frozen=True, slots=True)
class ConnectionResult:
    """The result of one connection test."""

    name: str
    is_ok: bool
    text: str


class _Test(threading.Thread):
    """The test of one destination; a daemon thread, so that a hanging test does not block the command."""

    def __init__(self, name: str, config: DestinationConfig, timeout_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self.outcome: Outcome | None = None
        self.timeout_s = timeout_s
        self._config = config

    def run(self) -> None:
        self.outcome = never_raise(self._test)() or Rejected("internal error in spancast; please report it")

    def _test(self) -> Outcome:
        try:
            destination = registry.create(self._config, self.name)
            try:
                return destination.test_connection(self.timeout_s)
            finally:
                destination.close()
        except ConfigError as error:
            return Rejected(str(error))


def check_connections(
    destinations: Mapping[str, DestinationConfig], timeout_s: float | None = None
) -> Iterator[ConnectionResult]:
    """Test all ``destinations`` in parallel and yield the results in their order.

    The limit of each is ``timeout_s`` seconds, or its own ``timeout``.
    """
    tests = [
        _Test(name, config, timeout_s or getattr(config, "timeout", _LOCAL_S)) for name, config in destinations.items()
    ]
    started_s = time.monotonic()
    for test in tests:
        test.start()
    for test in tests:
        test.join(max(0.0, started_s + test.timeout_s + _GRACE_S - time.monotonic()))
        is_ok, text = _result(test.outcome, test.timeout_s)
        yield ConnectionResult(test.name, is_ok, text)


def _result(outcome: Outcome | None, timeout_s: float) -> tuple[bool, str]:
    match outcome:
        case None:
            return False, f"no response within {timeout_s:g} s"
        case Delivered(rejected=0, message=message):
            return True, message
        case Delivered(message=message):
            return False, message or "the test span was rejected"
        case Retry(reason=reason) | Failed(reason=reason):
            return False, f"{reason}; temporary, spans would stay queued"
        case PartlyDelivered(rest=rest):
            return _result(rest, timeout_s)
        case Rejected(reason=reason):
            return False, reason
