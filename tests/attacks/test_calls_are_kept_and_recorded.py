"""The promises that the caller's call is unchanged and that what was answered is recorded, attacked."""

from __future__ import annotations

from tests.attacks import calls

from spancast.testing import CapturedSpans, ReplayServer

TRIALS = 2


async def test_random_calls_with_broken_answers_are_unchanged_and_recorded(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    count, wrong = await calls.trials(server, spans, range(TRIALS))
    assert count >= TRIALS * len(calls.ATTACKED)
    assert not wrong, next(iter(wrong.items()))
