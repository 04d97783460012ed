"""``spancast traces`` and ``show``, on a store that a pipeline wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.trace import StatusCode, Tracer
from tests.cli.past import Command, configure, pipeline
from tests.export.pipelines import call

import spancast
from spancast.cli import traces
from spancast.destinations.local_store import default_store_path
from spancast.model import semconv

STORE = {"type": "store", "path": "spans.db", "spans": "all"}
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


@pytest.fixture
def ids() -> list[str]:
    return pipeline({"mine": STORE}, support)


class TestTraces:
    def test_traces_newest_first(self, run: Command, ids: list[str]) -> None:
        heading, *lines = run("traces").splitlines()
        assert heading.split() == ["STARTED", "TRACE", "NAME", "CALLS", "TOKENS", "COST", "TOOK", "STATUS"]
        assert [line.split()[1] for line in lines] == [ids[1][:8], ids[0][:8]]
        assert " Support s2      1  12k→50  $0.0015 " in lines[0]
        assert lines[0].endswith("1 error")
        assert lines[1].endswith("ok")

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
        assert " · session s2 · 1 call · 12,345 → 50 tokens · $0.001500 · " in lines[1]
        tree = lines[lines.index("") + 1 :]
        assert tree[0].startswith("POST /chat      ")
        assert tree[0].endswith("✗ error")
        assert tree[1].startswith("└─ chat gpt-4o  ")
        assert "12345 → 50 tokens  $0.001500" in tree[1]
        assert "  POST /chat: 429 �[31mtoo many" in lines

    def test_show_long_lines_are_shortened(self, run: Command) -> None:
        def wide(tracer: Tracer) -> str:
            with tracer.start_as_current_span("POST /api/v1/" + "conversation/" * 9) as root:
                attributes = {semconv.RESPONSE_MODEL: "gpt-4o-2024-08-06", semconv.RESPONSE_TIME_TO_FIRST_CHUNK: 0.35}
                call(tracer, 1, **attributes, **{semconv.USAGE_COST: 0.5})
                call(tracer, 1)
            return f"{root.get_span_context().trace_id:032x}"

        lines = run("show", pipeline({"mine": STORE}, wide)).splitlines()
        tree = lines[lines.index("") + 1 :]
        assert tree[0].startswith("POST /api/v1/conversation/")
        assert "…" in tree[0]
        assert tree[1].endswith("1 → 0 tokens  $0.500000")
        assert tree[2] == "│    gpt-4o-2024-08-06, streamed, first chunk after 350 ms"
        assert tree[3].startswith("└─ chat gpt-4o")

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
        assert run.err == f"spancast: 'ab' is ambiguous: {first}, {second}\n"

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
