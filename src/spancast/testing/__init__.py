"""Tools for tests of code that calls LLMs: a replay server and captured spans.

``check_destination`` and ``check_dialect`` hold what others add to spancast to the contract that ours are held to.

from spancast.testing import ReplayServer, captured_spans

with ReplayServer() as server, captured_spans() as spans:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="test"))
    ...
assert spans.names() == ["chat gpt-5.2"]
"""

from spancast.testing.contract import check_destination, check_dialect
from spancast.testing.replay import Received, ReplayServer, Reply
from spancast.testing.spans import CapturedSpans, captured_spans, tree_text

__all__ = [
    "CapturedSpans",
    "Received",
    "ReplayServer",
    "Reply",
    "captured_spans",
    "check_destination",
    "check_dialect",
    "tree_text",
]
