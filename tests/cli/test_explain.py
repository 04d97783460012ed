"""``spancast explain``: every delivery state of a span."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer
from tests.cli.past import AWAY, BLOCKED_S, Command, configure, file, pipeline, three
from tests.destinations.otlp_receiver import OtlpReceiver, status
from tests.export.pipelines import call, otlp, pipeline_to

import spancast

RESPONSE = {"model": "gpt-4o", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}


def conversation(tracer: Tracer) -> str:
    """A web request with two calls; return its trace id."""
    with tracer.start_as_current_span("POST /chat") as root:
        # Sampling depends on the session, so the decision is the same in every run.
        call(tracer, **{"session.id": "s1"})
        call(tracer, **{"session.id": "s1", "gen_ai.request.model": "claude"})
    return f"{root.get_span_context().trace_id:032x}"


def test_explain_same_state_of_all_spans_gives_one_line(run: Command, receiver: OtlpReceiver, blocked: object) -> None:
    receiver.answer_with(status(400, body=b"no such project"))
    trace_id = pipeline(
        {
            "here": file("here"),
            "rare": file("rare", sampling_rate=0.0001),
            "vendor": otlp(receiver.url),
            "away": AWAY,
        },
        conversation,
        BLOCKED_S,
    )
    configure({"here": file("here"), "later": file("later")})
    lines = run("explain", trace_id).splitlines()
    assert lines[0] == trace_id
    assert lines[1].startswith("3 spans in ")
    line_of = {line.split()[0]: line for line in lines[3:] if not line.startswith(" ")}
    assert line_of["here"].startswith("here    delivered ")
    assert line_of["rare"] == "rare    sampled out"
    assert line_of["vendor"].startswith("vendor  dead-lettered ")
    assert "no such project" in " ".join(" ".join(lines).split())
    assert line_of["away"].startswith("away    queued: ")
    assert line_of["later"] == "later   not configured"
    states = run.data("explain", trace_id)["spans"][0]["destinations"]
    assert {name: entry["state"] for name, entry in states.items()} == {
        "here": "delivered", "rare": "sampled_out", "vendor": "dead_lettered", "away": "queued",
    }  # fmt: skip


def test_explain_different_states_name_their_spans(run: Command) -> None:
    rule = {"field": "model", "operator": "equals", "value": "claude"}
    trace_id = pipeline({"some": file("some", filter_rules={"groups": [{"rules": [rule]}]})}, conversation)
    printed = run("explain", trace_id).splitlines()[3:]
    assert printed[0] == "some  filtered: filter rules [1 span: chat gpt-4o]"
    assert printed[1].startswith("      delivered ")
    assert printed[1].endswith("[2 spans: chat gpt-4o, POST /chat]")


def test_explain_non_genai_span_is_filtered(run: Command) -> None:
    sender = pipeline_to({"llm": file("llm", spans="genai")}, Path("queue"))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(sender.processor)
    with provider.get_tracer("sqlalchemy").start_as_current_span("SELECT") as span:
        trace_id = f"{span.get_span_context().trace_id:032x}"
    sender.shutdown()
    assert run("explain", trace_id, "--spool", "queue").splitlines()[3] == "llm  filtered: not an LLM span"


def test_explain_purged_span_is_dropped(run: Command, blocked: object) -> None:
    traces = pipeline({"away": AWAY}, three, BLOCKED_S)
    run("spool", "purge", "away", "--yes")
    line = run("explain", traces[0]).splitlines()[3]
    assert line.startswith("away  dropped ")
    assert line.endswith(": purged")


def test_explain_json_has_every_state(run: Command, blocked: object) -> None:
    trace_id = pipeline({"here": file("here"), "away": AWAY}, conversation, BLOCKED_S)
    data = run.data("explain", trace_id)
    assert data["trace_id"] == trace_id
    assert [span["name"] for span in data["spans"]] == ["chat gpt-4o", "chat gpt-4o", "POST /chat"]
    assert data["spans"][0]["parent_span_id"] == data["spans"][2]["span_id"]
    assert data["spans"][0]["destinations"]["here"]["state"] == "delivered"
    assert data["spans"][0]["destinations"]["here"]["at"].endswith("Z")
    assert data["spans"][0]["destinations"]["away"] == {"state": "queued", "reason": "", "at": None}
    assert data["destinations"]["away"]["attempts"] > 0


def test_explain_by_callers_id_or_prefix(run: Command) -> None:
    configure({"here": {"type": "store", "path": "spans.db", "spans": "all"}})
    spancast.configure("spancast.yaml")
    try:
        with spancast.trace(trace_id="order-7", trace_name="Order"):
            spancast.instrument(lambda **_: RESPONSE, dialect="openai_chat")(model="gpt-4o", messages=[])
        assert spancast.flush()
    finally:
        spancast.shutdown()
    by_own_id = run("explain", "order-7")
    trace_id = by_own_id.split()[0]
    assert by_own_id.splitlines()[0] == f"{trace_id} (order-7)"
    assert "here  delivered " in by_own_id
    for same in (trace_id, trace_id.upper(), trace_id[:8]):
        assert run.data("explain", same)["trace_id"] == trace_id


def test_explain_unknown_trace_fails(run: Command) -> None:
    pipeline({"here": file("here")}, three)
    run("explain", "order-8", status=1)
    assert run.err.startswith("spancast: no trace 'order-8' in the spool ")
    assert run.err.count("\n") == 1


def test_explain_trace_of_local_store_without_spool(run: Command) -> None:
    spancast.configure(path=None)
    try:
        with spancast.trace(trace_id="order-7", trace_name="Order"):
            pass
        assert spancast.flush()
    finally:
        spancast.shutdown()
    trace_id = run.data("traces")[0]["trace_id"]
    for given in (trace_id, trace_id[:8], "order-7"):
        lines = run("explain", given).splitlines()
        assert lines[0].split()[0] == trace_id
        assert " ".join(lines[2:]).startswith("the local store has 1 span of this trace: ")
    assert run.data("explain", trace_id[:8])["local_store"]["spans"] == 1


def test_explain_trace_of_local_store_with_spool_in_memory(run: Command) -> None:
    configure({"mine": {"type": "store", "path": "spans.db", "spans": "all"}}, spool="memory")
    spancast.configure("spancast.yaml")
    try:
        with spancast.trace(trace_id="order-7", trace_name="Order"):
            pass
        assert spancast.flush()
    finally:
        spancast.shutdown()
    printed = " ".join(run("explain", "order-7").split())
    assert "the local store has 1 span of this trace: spans.db" in printed
    assert "nothing is known of other destinations: the spool is in memory" in printed


def test_explain_ambiguous_prefix_lists_the_traces(run: Command) -> None:
    def similar_ids(tracer: Tracer) -> list[str]:
        numbers = iter((0xAB1 << 116, 0xAB2 << 116, 0xAB3 << 116))
        vars(vars(tracer)["id_generator"])["generate_trace_id"] = lambda: next(numbers)
        return three(tracer)

    found = pipeline({"here": {"type": "store", "path": "spans.db", "spans": "all"}}, similar_ids)
    run("explain", "ab", status=1)
    assert [line.split()[0] for line in run.err.splitlines()[1:]] == found
