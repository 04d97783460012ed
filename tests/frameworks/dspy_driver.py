"""dspy: its models have an HTTP client of their own."""

from __future__ import annotations

from typing import Any

import dspy
from tests.frameworks.driver import LIMITED, Case, wait, whole

from spancast.testing import ReplayServer


def model(server: ReplayServer) -> Any:
    return dspy.LM("openai/gpt-4o-mini", api_base=server.base_url, api_key="k", cache=False, num_retries=0)


def predict(server: ReplayServer) -> Any:
    with dspy.context(lm=model(server), adapter=dspy.ChatAdapter()):
        return dspy.Predict("question -> answer")(question="?").answer


async def awaited(server: ReplayServer) -> Any:
    with dspy.context(lm=model(server), adapter=dspy.ChatAdapter()):
        return (await dspy.Predict("question -> answer").acall(question="?")).answer


_ANSWER = (whole("[[ ## answer ## ]]\nOslo\n[[ ## completed ## ]]"),)

CASES = {
    "model": Case(lambda s: model(s)("hi")),
    "predict": Case(predict, _ANSWER),
    "async": Case(lambda s: wait(awaited(s)), _ANSWER),
    "error": Case(lambda s: model(s)("hi"), LIMITED, raises="LMRateLimitError"),
}
