"""The promise that no content goes out in privacy mode, attacked."""

from __future__ import annotations

from tests.attacks import content

TRIALS = 2


def test_unknown_field_at_any_level_does_not_pass() -> None:
    count, leaks = content.trials(range(TRIALS))
    assert count > 1_000
    assert not leaks, next(iter(leaks.items()))
