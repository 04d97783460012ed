"""Tests of connections, all at once, each within its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from spancast.destinations import registry
from spancast.destinations.config import DestinationConfig
from spancast.destinations.protocol import Delivered, Failed, Outcome, Rejected, Retry
from spancast.diagnostics import never_raise
from spancast.errors import ConfigError

_GRACE_S: Final = 1.0
"""What a destination may take beyond its time: connecting and answering are limited one by one."""
_LOCAL_S: Final = 10.0
"""For those without a ``timeout`` of their own, which write to this machine."""


@dataclass(frozen=True, slots=True)
class ConnectionResult:
    """What came of one test."""

    name: str
    is_ok: bool
    text: str


class _Test(threading.Thread):
    """Tests one destination; a daemon, so that one that hangs does not keep the command."""

    def __init__(self, name: str, config: DestinationConfig, timeout_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self.outcome: Outcome | None = None
        self.timeout_s = timeout_s
        self._config = config

    def run(self) -> None:
        self.outcome = never_raise(self._tested)() or Rejected("an error of spancast itself; please report it")

    def _tested(self) -> Outcome:
        try:
            destination = registry.create(self._config, self.name)
            try:
                return destination.test_connection(self.timeout_s)
            finally:
                destination.close()
        except ConfigError as error:
            return Rejected(str(error))


def verdicts(
    destinations: Mapping[str, DestinationConfig], timeout_s: float | None = None
) -> Iterator[ConnectionResult]:
    """Test all ``destinations`` at once and yield what came of each, in their order.

    Each has ``timeout_s`` seconds, or what its own ``timeout`` says.
    """
    tests = [
        _Test(name, config, timeout_s or getattr(config, "timeout", _LOCAL_S)) for name, config in destinations.items()
    ]
    begun_s = time.monotonic()
    for test in tests:
        test.start()
    for test in tests:
        test.join(max(0.0, begun_s + test.timeout_s + _GRACE_S - time.monotonic()))
        is_ok, text = _told(test.outcome, test.timeout_s)
        yield ConnectionResult(test.name, is_ok, text)


def _told(outcome: Outcome | None, timeout_s: float) -> tuple[bool, str]:
    match outcome:
        case None:
            return False, f"no answer within {timeout_s:g} s"
        case Delivered(rejected=0, message=message):
            return True, message
        case Delivered(message=message):
            return False, message or "the test span was rejected"
        case Retry(reason=reason) | Failed(reason=reason):
            return False, f"{reason}; it may pass, spans would wait"
        case Rejected(reason=reason):
            return False, reason
