from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from tests.destinations.spans import CALL, KEYS, conversation, of_sdk, span

from spancast.encoding.tree_view import render_tree, totals
from spancast.model import semconv
from spancast.testing import captured_spans, tree_text


def test_render_tree_shows_names_durations_tokens_cost_and_notes() -> None:
    assert render_tree(conversation()) == (
        "Order Processing Pipeline     1.40 s\n"
        "└─ Extraction                 1.30 s\n"
        "   ├─ Extract Order Details   1.00 s  100 → 50 tokens  $0.000750  openai/gpt-4o, streamed, first chunk after 500 ms\n"
        "   └─ chat claude-4.5-sonnet   80 ms                              ✗ RateLimitError"
    )


def test_render_tree_in_any_order_is_the_same() -> None:
    assert render_tree(reversed(conversation())) == render_tree(conversation())


CALL_ONLY = {name: value for name, value in CALL.items() if name not in KEYS}


def test_render_tree_span_without_its_parent_is_a_root() -> None:
    assert render_tree([span("a", 2, 1, attributes=CALL_ONLY)]).startswith("a ")


def test_render_tree_span_that_is_its_own_parent_is_a_root() -> None:
    assert render_tree([span("loop", 1, 1)]) == "loop  1.00 s"


def test_render_tree_spans_in_a_circle_are_shown() -> None:
    assert render_tree([span("a", 1, 2), span("b", 2, 1)]) == "a     1.00 s\n└─ b  1.00 s"


def test_render_tree_deeper_than_the_call_stack() -> None:
    spans = [span("a", number, number - 1) for number in range(1, 3000)]
    assert len(render_tree(spans).splitlines()) == len(spans)


def test_render_tree_without_spans_is_empty() -> None:
    assert render_tree([]) == ""


def test_render_tree_replaces_control_characters() -> None:
    assert render_tree([span("a\x1b[2Jb\nc\u202ed\x9be", 1)]) == "a�[2Jb�c�d�e  1.00 s"


def test_totals_sums_calls_tokens_and_cost() -> None:
    sums = totals(conversation())
    assert (sums.calls, sums.input_tokens, sums.output_tokens, sums.cost) == (2, 100, 50, 0.00075)
    assert totals([]).cost is None


def test_tree_text_of_sdk_spans_is_the_tree_of_their_data() -> None:
    with captured_spans() as spans:
        tracer = spans.provider.get_tracer("tests")
        with tracer.start_as_current_span("group"), tracer.start_as_current_span("chat", attributes=CALL) as call:
            call.set_status(StatusCode.ERROR)
        ended = spans.all()
        running = tracer.start_span("running")
        assert tree_text(ended) == render_tree([of_sdk(span) for span in ended])
        assert tree_text(ended).splitlines()[1].startswith("└─ chat")
        assert isinstance(running, ReadableSpan)
        assert tree_text([running]) == "running  open"


def test_render_tree_and_totals_mark_an_estimated_cost() -> None:
    call = {semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: "chat"}
    charged = span("chat", 1, attributes={**call, semconv.USAGE_COST: 0.001})
    estimate = {**call, semconv.USAGE_COST: 0.002, semconv.COST_SOURCE: "genai-prices 1"}
    estimated = span("chat", 2, attributes=estimate)
    assert [line.rpartition(" ")[2] for line in render_tree([charged, estimated]).splitlines()] == [
        "$0.001000",
        "~$0.002000",
    ]
    assert not totals([charged]).is_estimated
    assert totals([charged, estimated]).is_estimated
