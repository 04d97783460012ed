"""The promise that the trace holds together, attacked."""

from __future__ import annotations

from tests.attacks import traces

from spancast.testing import CapturedSpans

TRIALS = 60


def test_random_programs_give_the_tree_and_the_sessions_they_name(spans: CapturedSpans) -> None:
    count, wrong = traces.trials(spans, range(TRIALS))
    assert count > TRIALS
    assert not wrong, next(iter(wrong.items()))
