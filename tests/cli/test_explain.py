"""``spancast explain``: every fate a span can have, in words."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer
from tests.cli.past import AWAY, BLOCKED_S, Command, configure, file, pipeline, three
from tests.destinations.otlp_receiver import OtlpReceiver, status
from tests.export.pipelines import call, otlp, pipeline_to

import spancast

SAID = {"model": "gpt-4o", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}


def conversation(tracer: Tracer) -> str:
    """A web request with two calls; return its trace id."""
    with tracer.start_as_current_span("POST /chat") as root:
        # Sampling goes by the session, so that chance has no part in it.
        call(tracer, **{"session.id": "s1"})
        call(tracer, **{"session.id": "s1", "gen_ai.request.model": "claude"})
    return f"{root.get_span_context().trace_id:032x}"


def test_a_line_per_destination_where_all_spans_share_the_fate(
    run: Command, receiver: OtlpReceiver, blocked: object
) -> None:
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
    told = {line.split()[0]: line for line in lines[3:] if not line.startswith(" ")}
    assert told["here"].startswith("here    delivered ")
    assert told["rare"] == "rare    sampled out"
    assert told["vendor"].startswith("vendor  refused ")
    assert "no such project" in " ".join(" ".join(lines).split())
    assert told["away"].startswith("away    waiting: tried ")
    assert told["later"] == "later   not configured then"


def test_spans_of_one_trace_with_several_fates(run: Command) -> None:
    rule = {"field": "model", "operator": "equals", "value": "claude"}
    trace_id = pipeline({"some": file("some", filter_rules={"groups": [{"rules": [rule]}]})}, conversation)
    printed = run("explain", trace_id).splitlines()[3:]
    assert printed[0] == "some  filtered: filter rules [1 span: chat gpt-4o]"
    assert printed[1].startswith("      delivered ")
    assert printed[1].endswith("[2 spans: chat gpt-4o, POST /chat]")


def test_not_a_span_of_an_llm(run: Command) -> None:
    sender = pipeline_to({"llm": file("llm", spans="genai")}, Path("queue"))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(sender.processor)
    with provider.get_tracer("sqlalchemy").start_as_current_span("SELECT") as span:
        trace_id = f"{span.get_span_context().trace_id:032x}"
    sender.shutdown()
    assert run("explain", trace_id, "--spool", "queue").splitlines()[3] == "llm  not sent: not an LLM span"


def test_purged_records(run: Command, blocked: object) -> None:
    traces = pipeline({"away": AWAY}, three, BLOCKED_S)
    run("spool", "drop", "--to", "away", "--yes")
    line = run("explain", traces[0]).splitlines()[3]
    assert line.startswith("away  dropped ")
    assert line.endswith(": purged")


def test_for_scripts(run: Command, blocked: object) -> None:
    trace_id = pipeline({"here": file("here"), "away": AWAY}, conversation, BLOCKED_S)
    told = run.data("explain", trace_id)
    assert told["trace_id"] == trace_id
    assert [span["name"] for span in told["spans"]] == ["chat gpt-4o", "chat gpt-4o", "POST /chat"]
    assert told["spans"][0]["parent_span_id"] == told["spans"][2]["span_id"]
    assert told["spans"][0]["destinations"]["here"]["fate"] == "delivered"
    assert told["spans"][0]["destinations"]["here"]["at"].endswith("Z")
    assert told["spans"][0]["destinations"]["away"] == {"fate": "waiting", "reason": "", "at": None}
    assert told["destinations"]["away"]["attempts"] > 0


def test_the_callers_own_id_and_a_beginning_that_the_store_knows(run: Command) -> None:
    configure({"here": {"type": "store", "path": "spans.db", "spans": "all"}})
    spancast.configure("spancast.yaml")
    try:
        with spancast.trace(trace_id="order-7", trace_name="Order"):
            spancast.instrument(lambda **_: SAID, dialect="openai_chat")(model="gpt-4o", messages=[])
        assert spancast.flush()
    finally:
        spancast.shutdown()
    by_own_id = run("explain", "order-7")
    trace_id = by_own_id.split()[0]
    assert by_own_id.splitlines()[0] == f"{trace_id} (order-7)"
    assert "here  delivered " in by_own_id
    for same in (trace_id, trace_id.upper(), trace_id[:8]):
        assert run.data("explain", same)["trace_id"] == trace_id


def test_a_trace_nobody_knows(run: Command) -> None:
    pipeline({"here": file("here")}, three)
    run("explain", "elsewhere", status=1)
    assert "knows no trace 'elsewhere'. Either it was never handed over" in run.err
    assert run.err.count("\n") == 1
