from __future__ import annotations

from tests.destinations.spans import conversation, span

from spancast.encoding.tree_view import render_tree, totals


def test_names_durations_tokens_cost_and_notes() -> None:
    assert render_tree(conversation()) == (
        "Order Processing Pipeline     1.40 s\n"
        "└─ Extraction                 1.30 s\n"
        "   ├─ Extract Order Details   1.00 s  100 → 50 tokens  $0.000750  openai/gpt-4o, streamed, first chunk after 500 ms\n"
        "   └─ chat claude-4.5-sonnet   80 ms                              ✗ RateLimitError"
    )


def test_order_of_arrival_does_not_matter() -> None:
    assert render_tree(reversed(conversation())) == render_tree(conversation())


def test_span_without_parent_in_tree_is_a_root() -> None:
    assert render_tree(conversation()[:2]).splitlines()[0].startswith("Extract Order Details")


def test_span_with_itself_as_parent_is_a_root() -> None:
    assert render_tree([span("loop", 1, 1)]) == "loop  1.00 s"


def test_tree_of_no_spans_is_empty() -> None:
    assert render_tree([]) == ""


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert render_tree([span("a\x1b[2Jb\nc", 1)]) == "a�[2Jb�c  1.00 s"


def test_totals() -> None:
    sums = totals(conversation())
    assert (sums.calls, sums.input_tokens, sums.output_tokens, sums.cost) == (2, 100, 50, 0.00075)
    assert totals([]).cost is None
