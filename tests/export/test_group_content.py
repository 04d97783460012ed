"""Group spans have the first question and the last answer of their calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.destinations.spans import span
from tests.export.pipelines import PATIENCE_S, pipeline_to

from spancast.diagnostics import counters
from spancast.encoding.span_data import SpanData
from spancast.export import group_content
from spancast.export.group_content import GroupContent
from spancast.model import semconv

GROUP = {semconv.OPERATION_NAME: semconv.INVOKE_WORKFLOW}


def call(number: int, parent: int, asked: str, answered: str, *, at_ms: int, **others: Any) -> SpanData:
    attributes = {
        semconv.OPERATION_NAME: "chat",
        semconv.REQUEST_MODEL: "m",
        semconv.INPUT_MESSAGES: json.dumps([
            {"role": "user", "parts": [{"type": "text", "content": "earlier"}]},
            {"role": "user", "parts": [{"type": "text", "content": asked}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "found"}]},
        ]),
        semconv.OUTPUT_MESSAGES: json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": answered}]}]),
        **others,
    }  # fmt: skip
    return span(f"call {number}", number, parent, at_ms=at_ms, ms=10, attributes=attributes)


def texts(of: SpanData) -> tuple[str | None, str | None]:
    found = [of.text(name) for name in (semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES)]
    said = [None if text is None else json.loads(text)[-1]["parts"][-1]["content"] for text in found]
    return said[0], said[1]


def completed(*spans: SpanData) -> dict[str, SpanData]:
    content = GroupContent()
    return {one.name: content.complete(one) for one in spans}


def test_group_has_first_question_and_last_answer_of_all_below() -> None:
    found = completed(
        # Ended in another order than they started, below a tool and a nested group.
        call(5, 4, "second", "middle", at_ms=20),
        call(6, 2, "first", "early", at_ms=10),
        span("tool", 4, 3, attributes={semconv.OPERATION_NAME: "execute_tool"}),
        call(7, 3, "third", "last", at_ms=30),
        span("inner", 3, 2, attributes=GROUP),
        span("outer", 2, attributes=GROUP),
        span("other", 9, attributes=GROUP),
    )
    assert texts(found["inner"]) == ("second", "last")
    assert texts(found["outer"]) == ("first", "last")
    assert texts(found["other"]) == (None, None)
    assert semconv.INPUT_MESSAGES not in found["tool"].attributes


def test_failed_last_call_leaves_the_answer_of_the_call_before() -> None:
    failed = call(4, 1, "again", "", at_ms=20)
    failed = failed.with_attributes({k: v for k, v in failed.attributes.items() if k != semconv.OUTPUT_MESSAGES})
    found = completed(call(3, 1, "first", "early", at_ms=10), failed, span("group", 1, attributes=GROUP))
    assert texts(found["group"]) == ("first", "early")


def test_embeddings_are_no_conversation() -> None:
    embedded = call(3, 1, "a document", "", at_ms=10, **{semconv.OPERATION_NAME: "embeddings"})
    assert texts(completed(embedded, span("group", 1, attributes=GROUP))["group"]) == (None, None)


def test_long_texts_are_truncated_and_stay_json() -> None:
    found = completed(call(3, 1, "a" * 200_000, "b" * 200_000, at_ms=10), span("group", 1, attributes=GROUP))
    question, answer = texts(found["group"])
    assert question is not None
    assert answer is not None
    assert 60_000 < len(question) < 70_000
    assert 30_000 < len(answer) < 70_000


def test_held_texts_are_bounded_and_evictions_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_content, "_MAX_PARENTS", 10)
    before, content = counters.read(), GroupContent()
    for number in range(100, 120):
        content.complete(call(number, number + 1000, "asked", "answered", at_ms=number))
    assert len(content._held) == 10
    assert sum(count for key, count in (counters.read() - before).items() if key.name == "group_content_evicted") == 10
    assert texts(content.complete(span("new", 1119, attributes=GROUP))) == ("asked", "answered")
    assert texts(content.complete(span("old", 1100, attributes=GROUP))) == (None, None)
    for number in range(1110, 1119):
        content.complete(span("new", number, attributes=GROUP))
    assert content._held_bytes == 0


# Through a pipeline: what destinations and the spool get.


def converse(processor: Any) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("spancast")
    with tracer.start_as_current_span("group", attributes=GROUP):
        tracer.start_span("call", attributes=call(1, 0, "canary-question", "canary-answer", at_ms=0).attributes).end()


def written(folder: Path, **others: Any) -> list[str]:
    path = folder / "spans.jsonl"
    pipeline = pipeline_to({"one": {"type": "file", "path": str(path), **others}}, folder / "spool")
    converse(pipeline.processor)
    assert pipeline.flush(PATIENCE_S)
    pipeline.shutdown()
    return [
        json.dumps(one)
        for line in path.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for one in scope["spans"]
        if one["name"] == "group"
    ]


def test_destination_gets_the_texts_of_a_group(tmp_path: Path) -> None:
    [group] = written(tmp_path)
    assert "canary-question" in group
    assert "canary-answer" in group


def test_privacy_mode_leaves_the_texts_out_of_destination_and_spool(tmp_path: Path) -> None:
    [group] = written(tmp_path, privacy_mode=True)
    assert "canary" not in group
    assert all(b"canary" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_masks_apply_to_the_texts_of_a_group(tmp_path: Path) -> None:
    [group] = written(tmp_path, mask=["canary-[a-z]+"])
    assert "canary" not in group
    assert "[masked]" in group


@pytest.mark.parametrize(
    "choice",
    [
        {"exclude_api_keys": ["staging"]},
        {"filter_rules": {"groups": [{"rules": [{"field": "output", "operator": "exists"}]}]}},
    ],
)
def test_destination_that_gets_some_calls_only_gets_no_texts_of_groups(choice: dict[str, Any], tmp_path: Path) -> None:
    """The texts of a group may be those of a call that it does not get."""
    [group] = written(tmp_path, **choice)
    assert "canary" not in group


def test_span_of_another_instrumentation_keeps_its_own_texts() -> None:
    agent = span("agent", 2, 1, attributes=call(9, 0, "own question", "own answer", at_ms=0).attributes)
    found = completed(call(3, 2, "inner", "inner", at_ms=5), agent, span("group", 1, attributes=GROUP))
    assert found["agent"] is agent
    assert texts(found["group"]) == ("own question", "own answer")
