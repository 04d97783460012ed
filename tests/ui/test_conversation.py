"""Messages of other shapes: parallel tool calls, chat form, media, reasoning, choices, other instrumentations."""

from __future__ import annotations

from typing import Any

from tests.destinations.spans import START_NS, span

from spancast.encoding.span_data import SpanData
from spancast.model import semconv
from spancast.model.json_codec import encode
from spancast.ui.conversation import answers_of, conversation_of, messages_of


def call(number: int, messages: Any, answers: Any = None) -> SpanData:
    attributes = {semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: "m", semconv.INPUT_MESSAGES: encode(messages)}
    if answers is not None:
        attributes[semconv.OUTPUT_MESSAGES] = encode(answers)
    made = span(f"call {number}", number, attributes=attributes)
    made.start_ns = START_NS + number
    return made


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "text", "content": text}]}


def assistant(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "parts": list(parts)}


def tool_call(identifier: str) -> dict[str, Any]:
    return {"type": "tool_call", "id": identifier, "name": f"tool {identifier}", "arguments": '{"a": 1}'}


def result(identifier: str, response: Any = "done") -> dict[str, Any]:
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": identifier, "response": response}]}


def shape(messages: Any) -> list[tuple[str, list[tuple[str, Any]]]]:
    return [
        (one.role, [(part.kind, part.result.value if part.result else None) for part in one.parts]) for one in messages
    ]


def test_parallel_tool_calls_have_their_own_results() -> None:
    talk = conversation_of(
        call(1, [user("x"), assistant(tool_call("a"), tool_call("b")), result("b", "B"), result("a", "A")]), (), ()
    )
    assert shape(talk.new) == [("user", [("text", None)]), ("assistant", [("call", "A"), ("call", "B")])]


def test_tool_calls_with_the_same_id_have_the_result_that_follows_each() -> None:
    talk = conversation_of(
        call(
            1,
            [
                user("x"),
                assistant(tool_call("a")),
                result("a", "1"),
                user("y"),
                assistant(tool_call("a")),
                result("a", "2"),
            ],
        ),
        (),
        (),
    )
    assert [part[1] for part in shape(talk.new) if part[0] == "assistant"] == [[("call", "1")], [("call", "2")]]


def test_result_of_a_later_call_is_not_that_of_an_earlier_one_with_the_same_id() -> None:
    asked = [user("x"), assistant(tool_call("a")), result("a", "1"), user("y")]
    answer = assistant(tool_call("a"))
    talk = conversation_of(call(1, asked, [answer]), (), [call(2, [*asked, answer, result("a", "2")])])
    assert shape(talk.answers) == [("assistant", [("call", "2")])]
    talk = conversation_of(call(1, asked, [answer]), (), [call(2, asked)])
    assert shape(talk.answers) == [("assistant", [("call", None)])]


def test_answer_that_is_sent_back_without_its_reasoning_is_not_new() -> None:
    thought = {"type": "reasoning", "content": "hm"}
    first = call(1, [user("x")], [assistant(thought, tool_call("a"))])
    talk = conversation_of(call(2, [user("x"), assistant(tool_call("a")), result("a")]), [first], ())
    assert (talk.since, talk.shared) == (first, 2)


def test_answer_of_the_earlier_call_is_not_new() -> None:
    first = call(1, [user("x")], [assistant(tool_call("a"))])
    talk = conversation_of(call(2, [user("x"), assistant(tool_call("a")), result("a")]), [first], ())
    assert (talk.since, talk.shared) == (first, 2)
    assert shape(talk.new) == [("tool", [("result", None)])]
    assert talk.new[0].parts[0].name == "tool a"


def test_baseline_is_the_call_with_most_in_common_then_the_nearest() -> None:
    one, two = call(1, [user("x")], [assistant()]), call(2, [user("x"), user("y")])
    other = call(3, [user("else")])
    assert conversation_of(call(4, [user("x"), user("y"), user("z")]), [other, two, one], ()).since is two
    assert conversation_of(call(5, [user("x")]), [two, one], ()).since is two


def test_system_instructions_alone_are_nothing_in_common() -> None:
    system = {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]}
    talk = conversation_of(call(2, [system, user("y")]), [call(1, [system, user("x")])], ())
    assert (talk.since, len(talk.new)) == (None, 2)


def test_result_of_an_answer_is_found_in_a_later_call() -> None:
    later = call(2, [user("x"), assistant(tool_call("a")), result("a", {"ok": True})])
    [answer] = conversation_of(call(1, [user("x")], [assistant(tool_call("a"))]), (), [later]).answers
    assert answer.parts[0].result is not None
    assert (answer.parts[0].result.value, answer.parts[0].found_in) == ({"ok": True}, later)


def test_result_without_its_call_is_shown() -> None:
    assert shape(conversation_of(call(1, [result("gone")]), (), ()).new) == [("tool", [("result", None)])]


def test_chat_form_of_other_instrumentations_is_read() -> None:
    messages = [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "done"},
        "text",
    ]
    talk = conversation_of(call(1, messages), (), ())
    assert shape(talk.new) == [
        ("user", [("text", None)]), ("assistant", [("call", "done")]), ("user", [("text", None)]),
    ]  # fmt: skip


def test_media_has_type_size_and_digest_but_no_bytes() -> None:
    parts = [
        {"type": "uri", "modality": "image", "uri": "sha256:ab", "byte_size": 7, "mime_type": "image/png"},
        {"type": "blob", "modality": "audio", "content": "aGk="},
        {"type": "file", "modality": "file", "file_id": "f-1"},
        {"type": "uri", "modality": "image", "uri": "data:image/png;base64,aGk="},
    ]
    [message] = messages_of(call(1, [{"role": "user", "parts": parts}])) or ()
    assert [part.kind for part in message.parts] == ["media"] * 4
    assert message.parts[0].value == {"type": "image/png", "bytes": 7, "digest": "ab", "address": "", "file": ""}
    assert "aGk=" not in repr(message)


def test_odd_values_are_shown_as_they_are() -> None:
    for given in ("plain text", [1, None, "x"], {"role": "user"}, [], [{"parts": 7}], [{"role": 1, "parts": [[1]]}]):
        conversation_of(call(1, given, given), (), ())
    [answer] = answers_of(call(1, [], "plain text")) or ()
    assert answer.text == "plain text"
    assert not conversation_of(span("group", 1, attributes={}), (), ()).is_recorded
