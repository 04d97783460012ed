"""``spancast traces`` and ``show``, on a store that a pipeline wrote."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode, Tracer
from tests.cli.past import Command, configure, pipeline
from tests.destinations.spans import conversation
from tests.export.pipelines import call

import spancast
from spancast.cli import traces
from spancast.destinations.local_store import Store, default_store_path
from spancast.model import semconv

STORE = {"type": "store", "path": "spans.db", "spans": "all"}
STORE_PATH = Path("spans.db")
ANSWER = (
    '[{"role":"assistant","parts":[{"type":"text","content":"canary answer"},'
    '{"type":"tool_call","id":"c1","name":"find","arguments":{"id":7}}]}]'
)


def support(tracer: Tracer) -> list[str]:
    """Create two conversations, the second with an error; return their trace ids."""
    ids: list[str] = []
    for session, model, fault in (("s1", "gpt-4o", ""), ("s2", "claude-sonnet-4.5", "429 \x1b[31mtoo many")):
        with tracer.start_as_current_span("POST /chat", attributes={semconv.SESSION_ID: session}) as root:
            attributes = {
                semconv.REQUEST_MODEL: model,
                semconv.SESSION_ID: session,
                semconv.TRACE_NAME: f"Support {session}",
                semconv.USAGE_OUTPUT_TOKENS: 50,
                semconv.USAGE_COST: 0.0015,
                semconv.OUTPUT_MESSAGES: ANSWER,
            }
            call(tracer, 12345, **attributes)
            if fault:
                root.set_status(StatusCode.ERROR, fault)
        ids.append(f"{root.get_span_context().trace_id:032x}")
    return ids


def agent(tracer: Tracer) -> str:
    """Create a conversation with tool calls, a failed call, a closed stream and damaged values; return its trace id."""
    chat = {
        semconv.PROVIDER_NAME: "openai",
        semconv.REQUEST_TEMPERATURE: 0.2,
        semconv.TRACE_METADATA + "feature": "billing",
    }
    asked = '[{"role":"user","parts":[{"type":"text","content":"canary question"}]},{"role":"user","parts":[]}]'
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("plan", "", {
            semconv.RESPONSE_FINISH_REASONS: ["stop"], semconv.USAGE_CACHE_READ: 1000, semconv.INPUT_MESSAGES: asked,
            semconv.PROBLEMS: ["trace.span_name: int given, a string is expected; ignored"],
        }),
        ("search", "", {
            **chat, semconv.RESPONSE_FINISH_REASONS: ["tool_call"], semconv.OUTPUT_MESSAGES: ANSWER,
            semconv.RESPONSE_TIME_TO_FIRST_CHUNK: 0.35, semconv.TRACE_METADATA + "tier": 2, semconv.INPUT_MESSAGES: asked,
        }),
        ("answer", "slow down", {
            **chat, semconv.ERROR_TYPE: "openai.RateLimitError", semconv.RESPONSE_INCOMPLETE: "closed",
            semconv.RESPONSE_FINISH_REASONS: ["error"], semconv.REQUEST_STREAM: True,
        }),
        ("check", "", {
            semconv.REQUEST_MODEL: "mistral-large", semconv.PROVIDER_NAME: "mistral_ai", semconv.REDACTED: [semconv.INPUT_MESSAGES],
            semconv.RESPONSE_FINISH_REASONS: ["stop"], semconv.TRACE_METADATA + "note": "[masking failed]",
            semconv.OUTPUT_MESSAGES: "[]", semconv.OUTPUT_MESSAGES + ".truncated": True,
            semconv.OUTPUT_MESSAGES + ".original_bytes": 10_000,
        }),
    ]  # fmt: skip
    with tracer.start_as_current_span("POST /chat") as root:
        for name, fault, attributes in calls:
            given = {
                semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: "gpt-4o", semconv.PROVIDER_NAME: "openai",
                semconv.TRACE_METADATA + "feature": "billing", **attributes,
            }  # fmt: skip
            with tracer.start_as_current_span(name, attributes=given) as span:
                if fault:
                    span.set_status(StatusCode.ERROR, fault)
    return f"{root.get_span_context().trace_id:032x}"


@pytest.fixture
def ids() -> list[str]:
    return pipeline({"mine": STORE}, support)


class TestTraces:
    def test_traces_newest_first(self, run: Command, ids: list[str]) -> None:
        heading, *lines = run("traces").splitlines()
        assert heading.split() == ["STARTED", "TRACE", "NAME", "CALLS", "TOKENS", "COST", "TOOK", "STATUS"]
        assert [line.split()[1] for line in lines] == [ids[1][:8], ids[0][:8]]
        assert " Support s2      1  12.3k → 50  $0.001500 " in lines[0]
        assert lines[0].endswith("1 error")
        assert lines[1].endswith("ok")

    @pytest.mark.parametrize(
        ("columns", "heading"),
        [
            (120, "STARTED TRACE NAME MODEL CALLS TOKENS COST TOOK STATUS SESSION"),
            (60, "TRACE NAME TOKENS COST STATUS"),
            (30, "TRACE NAME STATUS"),
        ],
    )
    def test_traces_columns_that_do_not_fit_are_left_out(
        self, columns: int, heading: str, run: Command, ids: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = run("traces").splitlines()
        assert lines[0].split() == heading.split()
        assert lines[1].split()[heading.split().index("TRACE")] == ids[1][:8]

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            (["--session", "s1"], [0]),
            (["--model", "GPT"], [0]),
            (["--model", "o"], [1, 0]),
            (["--model", "gpt", "--session", "s2"], []),
            (["--errors"], [1]),
            (["--errors", "--model", "gpt"], []),
            (["--limit", "1"], [1]),
            (["--since", "1h"], [1, 0]),
            (["--since", "2100-01-01"], []),
        ],
    )
    def test_traces_filter_options(self, options: list[str], found: list[int], run: Command, ids: list[str]) -> None:
        assert [one["trace_id"] for one in run.data("traces", *options)] == [ids[number] for number in found]

    def test_json_output(self, run: Command, ids: list[str]) -> None:
        (data,) = run.data("traces", "--limit", "1")
        assert data["name"] == "Support s2"
        assert (data["input_tokens"], data["output_tokens"], data["cost"], data["errors"]) == (12345, 50, 0.0015, 1)
        assert data["start"].endswith("Z")
        assert data["duration_ms"] > 0

    def test_trace_with_an_open_group_is_listed_and_drawn_as_open(self, run: Command) -> None:
        Store(STORE_PATH).write(conversation()[:1])
        configure({"mine": {**STORE, "path": str(STORE_PATH)}})
        assert " open" in run("traces").splitlines()[1]
        group, generation = run("show", "order_processing_001").split("\n\n")[1].splitlines()[:2]
        assert group.split() == ["Order", "Processing", "Pipeline", "open"]
        assert generation.startswith("└─ Extract Order Details")

    def test_traces_no_match_prints_message(self, run: Command, ids: list[str]) -> None:
        assert run("traces", "--session", "none").startswith("no matching trace in ")

    def test_traces_without_configuration_uses_default_store(self, run: Command) -> None:
        spancast.configure(path=None)
        try:
            with spancast.trace(trace_name="first run"):
                pass
            spancast.flush()
        finally:
            spancast.shutdown()
        assert default_store_path().is_file()
        assert [one["name"] for one in run.data("traces")] == ["first run"]

    def test_traces_missing_store_fails(self, run: Command) -> None:
        configure({"mine": STORE})
        run("traces", status=1)
        assert run.err.startswith("spancast: no store at spans.db; traces are stored by a destination of `type: store`")
        assert not Path("spans.db").exists()

    def test_traces_invalid_store_file_fails(self, run: Command) -> None:
        Path("text.db").write_text("no database, but a text " * 100)
        run("traces", "--store", "text.db", status=1)
        assert run.err == "spancast: text.db cannot be read: file is not a database\n"

    def test_traces_invalid_configuration_fails(self, run: Command) -> None:
        Path("spancast.yaml").write_text("strict: perhaps")
        run("traces", status=1)
        assert "strict" in run.err

    def test_short_ids_are_distinct(self) -> None:
        assert traces._short_length(["a" * 32]) == 8
        assert traces._short_length(["0" * 31 + "1", "0" * 31 + "2", "0" * 31 + "2"]) == 32


class TestShow:
    def test_show_prints_tree(self, run: Command, ids: list[str]) -> None:
        lines = run("show", ids[1]).splitlines()
        assert lines[0] == ids[1]
        assert lines[1].endswith(" · service tests · session s2")
        assert lines[2].startswith("  total    1 call · 12.3k → 50 tokens · $0.001500 · ")
        assert lines[2].endswith(" · 1 error")
        tree = lines[lines.index("") + 1 :]
        assert tree[0].startswith("POST /chat      ")
        assert tree[1] == "│    ✗ error: 429 �[31mtoo many"
        assert tree[2].startswith("└─ chat gpt-4o  ")
        assert tree[2].endswith("12.3k → 50  $0.001500")

    def test_show_prints_what_is_known_of_each_call(self, run: Command) -> None:
        trace_id = pipeline({"mine": STORE}, agent)
        lines = run("show", trace_id).splitlines()
        start = lines.index("")
        assert lines[3:start] == [
            "  models   gpt-4o · 3 calls · openai · temperature=0.2",
            "           mistral-large · 1 call · mistral_ai",
            "  keys     feature=billing",
        ]
        known = [re.sub(r"^[│├└─ ]+|\d+ ms  | (?= )", "", line) for line in lines[start + 2 :]]
        assert known == [
            "plan gpt-4o · stop · 1,000 cached · no temperature",
            "! trace.span_name: int given, a string is expected; ignored",
            "search gpt-4o · tool_calls: find · first chunk 350 ms · tier=2",
            "answer gpt-4o · streamed",
            "✗ openai.RateLimitError: slow down",
            "! the stream did not end: closed",
            "check mistral-large · stop · note=[masking failed]",
            "! left out, may be content: gen_ai.input.messages",
            "! mask failed, value left out: trace.metadata.note",
            "! truncated: gen_ai.output.messages of 9.8 KiB",
        ]

    def test_show_traces_and_show_print_the_same_amounts(self, run: Command, ids: list[str]) -> None:
        listed, shown = run("traces"), run("show", ids[0])
        for amount in ("12.3k → 50", "$0.001500"):
            assert amount in listed
            assert amount in shown

    def test_show_long_lines_are_shortened(self, run: Command) -> None:
        def wide(tracer: Tracer) -> str:
            with tracer.start_as_current_span("POST /api/v1/" + "conversation/" * 9) as root:
                attributes = {semconv.RESPONSE_MODEL: "gpt-4o-2024-08-06", semconv.RESPONSE_TIME_TO_FIRST_CHUNK: 0.35}
                call(tracer, 1, **attributes, **{semconv.USAGE_COST: 0.5, semconv.REQUEST + "user_tier": "gold " * 20})
                call(tracer, 1)
            return f"{root.get_span_context().trace_id:032x}"

        lines = run("show", pipeline({"mine": STORE}, wide)).splitlines()
        tree = lines[lines.index("") + 1 :]
        assert tree[0].startswith("POST /api/v1/conversation/")
        assert "…" in tree[0]
        assert "1 → 0  $0.500000  gpt-4o-2024-08-06" in tree[1]
        assert tree[2] == "│       first chunk 350 ms"
        assert tree[3].startswith("└─ chat gpt-4o")

    def test_show_deep_tree_keeps_the_names(self, run: Command) -> None:
        def deep(tracer: Tracer) -> str:
            with contextlib.ExitStack() as stack:
                spans = [stack.enter_context(tracer.start_as_current_span(f"level {number}")) for number in range(40)]
            return f"{spans[0].get_span_context().trace_id:032x}"

        lines = run("show", pipeline({"mine": STORE}, deep)).splitlines()
        assert all(f"─ level {number} " in "\n".join(lines) for number in range(1, 40))

    def test_estimated_cost_is_marked(self, run: Command) -> None:
        def estimated(tracer: Tracer) -> str:
            return call(
                tracer, 5, **{semconv.USAGE_COST: 0.0012, semconv.COST_ESTIMATED: True, semconv.COST_SOURCE: "mine"}
            )[0]

        trace_id = pipeline({"mine": STORE}, estimated)
        assert "  ~$0.001200  " in run("traces")
        shown = run("show", trace_id)
        assert " · ~$0.001200 · " in shown
        assert shown.rstrip().endswith("  ~$0.001200")

    def test_show_content_repeats_no_messages(self, run: Command) -> None:
        lines = run("show", pipeline({"mine": STORE}, agent), "--content").splitlines()
        assert lines.count("  user: canary question") == 1
        assert "  (2 messages as above)" in lines

    def test_show_content_only_with_option(self, run: Command, ids: list[str]) -> None:
        assert "canary" not in run("show", ids[0])
        printed = run("show", ids[0], "--content")
        assert "  user: canary question\n  assistant: canary answer\n" in printed
        assert '  calls: find({"id":7})' in printed
        assert "canary" not in str(run.data("show", ids[0]))
        assert "canary answer" in str(run.data("show", ids[0], "--content"))

    def test_json_output(self, run: Command, ids: list[str]) -> None:
        data = run.data("show", ids[0])
        assert [span["name"] for span in data] == ["POST /chat", "chat gpt-4o"]
        assert data[1]["parent_span_id"] == data[0]["span_id"]
        assert data[1]["attributes"][semconv.USAGE_COST] == 0.0015

    def test_show_ambiguous_prefix_fails(self, run: Command) -> None:
        def similar_ids(tracer: Tracer) -> list[str]:
            numbers = iter((0xAB1 << 116, 0xAB2 << 116))
            vars(vars(tracer)["id_generator"])["generate_trace_id"] = lambda: next(numbers)
            return support(tracer)

        first, second = pipeline({"mine": STORE}, similar_ids)
        assert run("show", "ab1").splitlines()[0] == first
        run("show", "ab", status=1)
        assert run.err.splitlines() == [
            "spancast: 'ab' is the beginning of more than one trace id:", f"  {first}  Support s1", f"  {second}  Support s2",
        ]  # fmt: skip

    def test_show_unknown_id_fails(self, run: Command, ids: list[str]) -> None:
        run("show", "order-7", status=1)
        assert run.err.startswith("spancast: no trace 'order-7' in ")

    def test_show_by_trace_id_of_caller(self, run: Command) -> None:
        configure({"mine": STORE})
        spancast.configure("spancast.yaml")
        try:
            with spancast.trace(trace_id="order-7", trace_name="Order"):
                pass
            assert spancast.flush()
        finally:
            spancast.shutdown()
        first = run("show", "order-7").splitlines()[0]
        assert first.endswith(" (order-7)")
        assert run("show", first.split()[0]).splitlines()[0] == first


@pytest.mark.parametrize(
    ("variables", "is_coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_show_has_colours_only_if_the_terminal_has(
    variables: dict[str, str], is_coloured: bool, run: Command, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    for command in (["traces"], ["show", ids[1], "--content"]):
        printed = run(*command)
        assert ("\x1b[31m" in printed) == is_coloured
        assert ("\x1b" in printed) == is_coloured
    assert ("\x1b[36mclaude-sonnet-4.5\x1b[0m" in run("show", ids[1])) == is_coloured


def test_control_characters_of_any_text_do_not_reach_the_terminal(run: Command) -> None:
    odd = "\x1b]0;title\x07\x1b[31m\r\b\x9b2J\u202e\u2028\x00"

    def make(tracer: Tracer) -> str:
        message = [{"role": odd, "parts": [{"type": "text", "content": odd}]}]
        call_part = {"type": "tool_call", "id": odd, "name": odd, "arguments": odd}
        texts = (
            semconv.REQUEST_MODEL, semconv.PROVIDER_NAME, semconv.RESPONSE_PROVIDER, semconv.SESSION_ID, semconv.USER_ID,
            semconv.TRACE_NAME, semconv.RAW_TRACE_ID, semconv.ERROR_TYPE, semconv.RESPONSE_INCOMPLETE, semconv.REQUEST + "a",
            semconv.TRACE_METADATA + "b", semconv.TRACE_METADATA + odd, semconv.REQUEST + odd,
        )  # fmt: skip
        attributes = {
            **dict.fromkeys(texts, odd),
            semconv.OPERATION_NAME: "chat",
            semconv.RESPONSE_FINISH_REASONS: [odd],
            semconv.PROBLEMS: [odd],
            semconv.REDACTED: [odd],
            odd + ".truncated": True,
            odd: "[truncated]",
            semconv.INPUT_MESSAGES: json.dumps(message),
            semconv.OUTPUT_MESSAGES: json.dumps([{"role": "assistant", "parts": [message[0]["parts"][0], call_part]}]),
        }
        with tracer.start_as_current_span(odd, attributes=attributes) as span:
            span.set_status(StatusCode.ERROR, odd)
        with tracer.start_as_current_span(odd, attributes={semconv.REQUEST + "note": odd, semconv.OPERATION_NAME: odd}):
            pass
        return f"{span.get_span_context().trace_id:032x}"

    trace_id = pipeline({"mine": STORE}, make)
    for command in (["traces"], ["show", trace_id, "--content"], ["explain", trace_id], ["explain", trace_id[:8]]):
        printed = run(*command)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028]", printed)


@pytest.mark.parametrize(("options", "shown"), [([], "?? chat gpt-4o"), (["--json"], '"name": "chat gpt-4o"')])
def test_show_terminal_without_unicode(options: list[str], shown: str, ids: list[str]) -> None:
    code = f"import sys; from spancast.cli import main; sys.exit(main({['show', ids[0], *options]}))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown in done.stdout


def test_show_closed_pipe_returns_1(ids: list[str]) -> None:
    code = f"import sys; from spancast.cli import main; sys.exit(main({['show', ids[0], '--json']}))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.close()
        assert reading.stderr.read() == b""
    assert reading.returncode == 1
