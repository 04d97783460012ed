"""Copies of requests and responses, that are parsed later."""

from __future__ import annotations

import pydantic

from spancast.model import kept_copy


class Answer(pydantic.BaseModel):
    model: str
    parts: list[dict[str, int]]


def test_later_changes_do_not_reach_the_copy() -> None:
    answer = Answer(model="m", parts=[{"n": 1}])
    kept = kept_copy.keep({"answer": answer})
    assert kept is not None
    answer.parts[0]["n"] = 2
    assert kept_copy.restore(kept) == {"answer": {"model": "m", "parts": [{"n": 1}]}}


def test_model_without_its_fields_is_not_copied() -> None:
    assert kept_copy.keep(Answer.__new__(Answer)) is None
