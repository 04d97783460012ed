"""Events read by the fast path equal the same events decoded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dialects.streams import read_stream, recordings

from spancast.dialects.delta_fast_path import DeltaFastPath, feed_texts
from spancast.dialects.registry import find_dialect
from spancast.model import json_codec
from spancast.model.call import Response

STREAMS = [
    pytest.param(dialect, case["stream"], id=f"{dialect}-{name}")
    for dialect in ("openai_chat", "anthropic_messages")
    for name, case in recordings(dialect).items()
    if name.endswith(".stream")
]
SEPARATORS = [(",", ":"), (", ", ": ")]
HEAD = {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "m", "provider": "p"}


def read_texts(dialect: str, texts: list[str], *, content: bool = True) -> Response:
    reader: Any = find_dialect(dialect).new_stream(content=content)
    feed_texts(reader, texts, reader.feed_text)
    return reader.result()


def chat(delta: dict[str, Any], index: int = 0, **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": None}], "usage": None, **more}


@pytest.mark.parametrize("separators", SEPARATORS, ids=("compact", "spaced"))
@pytest.mark.parametrize("content", [True, False], ids=("content", "private"))
@pytest.mark.parametrize(("dialect", "events"), STREAMS)
def test_feed_texts_every_recording_equals_decoded(
    dialect: str, events: list[Any], content: bool, separators: tuple[str, str]
) -> None:
    texts = [json.dumps(event, separators=separators) for event in events]
    assert read_texts(dialect, texts, content=content) == read_stream(find_dialect(dialect), events, content=content)


PIECES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\{}[]:,\n\té'), max_size=12)
EVENTS = st.one_of(
    st.builds(lambda text, pad: chat({"content": text}, obfuscation=pad), PIECES, PIECES),
    st.builds(lambda text: chat({"content": text}), PIECES),
    st.builds(lambda text: chat({"content": text}, index=1), PIECES),
    st.builds(lambda text: chat({"role": "assistant", "content": text}), PIECES),
    st.builds(lambda text: chat({"content": text}, citations=[text]), PIECES),
    st.builds(lambda text: chat({"reasoning": text, "content": ""}), PIECES),
    st.builds(lambda text: chat({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}), PIECES),
    st.builds(lambda text: chat({"tool_calls": [{"index": 1, "function": {"arguments": text}}]}), PIECES),
)


@given(st.lists(EVENTS, max_size=30), st.sampled_from(SEPARATORS), st.booleans())
def test_feed_texts_any_chat_stream_equals_decoded(
    events: list[dict[str, Any]], separators: tuple[str, str], ascii_only: bool
) -> None:
    first_events = [
        chat({"role": "assistant", "content": "so"}),
        chat({"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
    ]
    all_events = [*first_events, *events]
    texts = [json.dumps(event, separators=separators, ensure_ascii=ascii_only) for event in all_events]
    # Decoded from the text, because json.dumps may change an event.
    assert read_texts("openai_chat", texts) == read_stream(
        find_dialect("openai_chat"), [json.loads(text) for text in texts]
    )


@given(PIECES, PIECES, st.booleans())
def test_match_accepts_only_json_strings(first: str, then: str, ascii_only: bool) -> None:
    fast_path, target = DeltaFastPath(), [first]
    fast_path.learn(json.dumps({"text": first, "n": 1}), "text", first, target)
    text = json.dumps({"text": then, "n": 1}, ensure_ascii=ascii_only)
    if fast_path.match([text], 0):
        assert "".join(target) == first + json_codec.decode(text)["text"]


@pytest.mark.parametrize(
    "text",
    [
        '{"text":"a","n":2}',
        '{"text":"a","n":1,"more":1}',
        '{"text":"a","b":"c","n":1}',
        '{"text":"a\\","n":1}',
        '{"text":null,"n":1}',
        '{"text":"\\x","n":1}',
        '{"text":"a\nb","n":1}',
        '{"text":"a","n":1}\n{"text":"b","n":1}',
    ],
)
def test_match_other_difference_is_rejected(text: str) -> None:
    fast_path, target = DeltaFastPath(), ["first"]
    fast_path.learn('{"text":"first","n":1}', "text", "first", target)
    assert fast_path.match(['{"text":"second","n":1}', text], 0) == 1
    assert target == ["first", "second"]


def test_feed_texts_uniform_stream_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [json.dumps(chat({"content": f"w{number} "})) for number in range(200)]
    decoded: list[str] = []
    decode = json_codec.decode
    monkeypatch.setattr(json_codec, "decode", lambda text: decoded.append(text) or decode(text))
    [message] = read_texts("openai_chat", texts).messages
    assert message["parts"][0]["content"] == "".join(f"w{number} " for number in range(200))
    assert len(decoded) <= 2


def test_run_of_texts_is_kept_as_one() -> None:
    fast_path, target = DeltaFastPath(), ["first"]
    fast_path.learn('{"text": "first"}', "text", "first", target)
    texts = [f'{{"text": "{at} "}}' for at in range(10_000)]
    assert fast_path.match(texts, 0) == len(texts)
    assert "".join(target) == "first" + "".join(f"{at} " for at in range(10_000))
    # Runs are compared in blocks that double.
    assert len(target) < 20
