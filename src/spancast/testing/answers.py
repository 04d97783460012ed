"""The default answers of the replay server: canned answers of the dialect that has the requested endpoint."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from spancast.dialects import canned_answers
from spancast.dialects.canned_answers import CannedAnswer, CannedAnswers, Json
from spancast.dialects.registry import DIALECTS, find_dialect, installed_dialects
from spancast.model.entry_points import load


def canned_answer(path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer | None:
    """Return an answer that echoes the last user message; None if no dialect has an endpoint at ``path``."""
    answers = _answers_at(path)
    return answers.answer(path, body, serial=serial, openrouter=openrouter) if answers else None


def error_body(status: int, path: str, *, openrouter: bool) -> Json:
    """Return the JSON of an error in the format of the provider at ``path``."""
    return (_answers_at(path) or canned_answers).error_body(status, openrouter=openrouter)


def _answers_at(path: str) -> CannedAnswers | None:
    dialects = itertools.chain(map(find_dialect, DIALECTS), installed_dialects().values())
    references = (dialect.answers for dialect in dialects if dialect is not None and dialect.answers)
    every: Iterator[CannedAnswers] = map(load, references)
    return next((answers for answers in every if answers.serves(path)), None)
