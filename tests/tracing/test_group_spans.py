"""Parents of spans: groups, links, keys of blocks, precedence."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from opentelemetry import baggage
from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spancast
from spancast.model import trace_keys
from spancast.testing import CapturedSpans, ReplayServer, captured_spans
from spancast.testing.spans import attributes
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.group_spans import GroupSpans
from spancast.tracing.span_factory import SpanFactory

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(server: ReplayServer) -> Any:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield spancast.instrument(made)


def chat(client: Any, **keys: Any) -> Any:
    return client.chat.completions.create(model="m", messages=MESSAGES, **keys)


def hashed(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:32], 16)


def by_name(spans: CapturedSpans) -> dict[str, Any]:
    return {span.name: span for span in spans.all()}


def test_calls_with_one_trace_id_share_root_and_span(client: Any, spans: CapturedSpans) -> None:
    for name in ("first", "second"):
        chat(client, trace={"trace_id": "t", "trace_name": "Support", "span_name": "triage", "generation_name": name})
    chat(client, trace={"trace_id": "t", "trace_name": "Support", "span_name": "answer", "generation_name": "third"})
    assert spans.tree() == {"Support": {"triage": {"first": {}, "second": {}}, "answer": {"third": {}}}}
    assert {span.context.trace_id for span in spans.all()} == {hashed("t")}


def test_group_ends_with_its_last_child(client: Any, spans: CapturedSpans) -> None:
    chat(client, trace={"trace_id": "t", "trace_name": "Support", "generation_name": "only"})
    found = by_name(spans)
    assert found["Support"].end_time >= found["only"].end_time - 1_000_000
    assert found["Support"].start_time <= found["only"].start_time


def test_group_opened_again_has_a_fresh_span_id(client: Any, spans: CapturedSpans) -> None:
    for _ in range(2):
        chat(client, trace={"trace_id": "t", "trace_name": "Support"})
        spancast.flush()
    roots = [span for span in spans.all() if span.name == "Support"]
    assert len({span.context.span_id for span in roots}) == 2
    assert len({span.context.trace_id for span in roots}) == 1
    assert all(span.parent is None for span in roots)


def test_idle_group_ends_by_itself(server: ReplayServer) -> None:
    ended = threading.Event()

    class Listening(CapturedSpans):
        pass

    provider = TracerProvider(shutdown_on_exit=False)
    with captured_spans(tracer_provider=provider, group_idle_timeout=0.01) as spans:
        from opentelemetry.sdk.trace import SpanProcessor

        class Notifier(SpanProcessor):
            def on_end(self, span: Any) -> None:
                if span.name == "Support":
                    ended.set()

        provider.add_span_processor(Notifier())
        with openai.OpenAI(base_url=server.base_url, api_key="k") as made:
            chat(spancast.instrument(made), trace={"trace_id": "t", "trace_name": "Support"})
        assert ended.wait(30)
        assert "Support" in spans.names()


def test_call_with_a_parent_opens_no_trace_group(client: Any, spans: CapturedSpans) -> None:
    tracer = spans.provider.get_tracer("app")
    with tracer.start_as_current_span("request"):
        chat(client, trace={"trace_name": "Support", "generation_name": "classify"})
    assert spans.tree() == {"request": {"classify": {}}}
    assert attributes(by_name(spans)["classify"])["trace.name"] == "Support"


def test_span_name_under_an_active_span(client: Any, spans: CapturedSpans) -> None:
    tracer = spans.provider.get_tracer("app")
    with tracer.start_as_current_span("request"):
        for _ in range(2):
            chat(client, trace={"span_name": "triage"})
    assert spans.tree() == {"request": {"triage": {"chat m": {}, "chat m'": {}}}}


def test_parent_span_id_is_the_parent(client: Any, spans: CapturedSpans) -> None:
    chat(
        client,
        trace={"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "parent_span_id": "00f067aa0ba902b7", "span_name": "s"},
    )
    group = by_name(spans)["s"]
    assert f"{group.context.trace_id:032x}" == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert f"{group.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert group.parent.is_remote


def test_parent_span_id_alone_uses_the_active_trace(client: Any, spans: CapturedSpans) -> None:
    with spans.provider.get_tracer("app").start_as_current_span("request") as request:
        chat(client, trace={"parent_span_id": "00f067aa0ba902b7"})
    call = spans.calls()[0]
    assert call.context.trace_id == request.get_span_context().trace_id
    assert f"{call.parent.span_id:016x}" == "00f067aa0ba902b7"


def test_parent_span_id_without_a_trace_is_a_validation_error(client: Any, spans: CapturedSpans) -> None:
    chat(client, trace={"parent_span_id": "00f067aa0ba902b7"})
    assert spans.one().parent is None
    assert attributes(spans.one())["spancast.validation_errors"] == [
        "trace.parent_span_id: needs trace.trace_id or an active span; ignored"
    ]


def test_another_trace_id_wins_over_the_active_span_and_links_to_it(client: Any, spans: CapturedSpans) -> None:
    with spans.provider.get_tracer("app").start_as_current_span("request") as request:
        chat(client, trace={"trace_id": "other", "trace_name": "Support"})
    root = by_name(spans)["Support"]
    assert root.parent is None
    assert root.context.trace_id == hashed("other")
    assert [link.context.span_id for link in root.links] == [request.get_span_context().span_id]
    assert not spans.calls()[0].links


def test_trace_id_of_the_active_trace_stays_in_it(client: Any, spans: CapturedSpans) -> None:
    with spans.provider.get_tracer("app").start_as_current_span("request") as request:
        chat(client, trace={"trace_id": f"{request.get_span_context().trace_id:032x}"})
    assert spans.tree() == {"request": {"chat m": {}}}


def test_block_with_names_opens_spans_with_or_without_calls(client: Any, spans: CapturedSpans) -> None:
    with spancast.trace(trace_name="Support", span_name="triage", session_id="chat-42", feature="billing") as scope:
        with spans.provider.get_tracer("app").start_as_current_span("tool"):
            chat(client)
        with spancast.trace(span_name="answer", tier=2):
            chat(client, trace={"generation_name": "last"})
        assert [ids.trace_id for ids in scope.calls] == [scope.trace_id] * 2
    with spancast.trace(span_name="empty"):
        pass
    assert spans.tree() == {"Support": {"triage": {"tool": {"chat m": {}}, "answer": {"last": {}}}}, "empty": {}}
    found = by_name(spans)
    assert attributes(found["last"]).items() >= {
        "session.id": "chat-42", "trace.metadata.feature": "billing", "trace.metadata.tier": 2, "trace.name": "Support",
    }.items()  # fmt: skip
    assert attributes(found["tool"])["session.id"] == "chat-42"
    assert "trace.metadata.tier" not in attributes(found["chat m"])


def test_block_without_names_opens_no_span(client: Any, spans: CapturedSpans) -> None:
    with spancast.trace(session_id="s", user="u"):
        chat(client)
    assert spans.names() == ["chat m"]
    assert attributes(spans.one())["user.id"] == "u"


def test_failing_block_sets_the_status_of_its_span(spans: CapturedSpans) -> None:
    with pytest.raises(ValueError, match="no"), spancast.trace(span_name="work"):
        raise ValueError("no")
    assert not spans.one().status.is_unset
    assert attributes(spans.one())["error.type"] == "ValueError"


async def test_trace_as_a_decorator(client: Any, spans: CapturedSpans) -> None:
    @spancast.trace(span_name="sync")
    def work(x: int) -> int:
        """Doc."""
        chat(client)
        return x

    @spancast.trace(span_name="async")
    async def work_async() -> None:
        chat(client)

    assert work(3) == 3
    assert work.__doc__ == "Doc."
    await work_async()
    assert spans.tree() == {"sync": {"chat m": {}}, "async": {"chat m": {}}}


def test_precedence_key_by_key(server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.configure(
        tracer_provider=spans.provider,
        default_trace={"a": "default", "b": "default", "c": "default", "session_id": "default"},
    )
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k"))
    token = context_api.attach(baggage.set_baggage("user.id", "from baggage"))
    try:
        with spancast.trace(a="ambient", b="ambient"):
            chat(
                client, trace={"a": "call"}, extra_body={"trace": {"a": "body", "x": "body"}},
                extra_headers={"X-Session-Id": "header"},
            )  # fmt: skip
            chat(client, extra_body={"session_id": "body"}, extra_headers={"x-session-id": "header"})
    finally:
        context_api.detach(token)
    client.close()
    first, second = (attributes(span) for span in spans.all())
    assert {k: v for k, v in first.items() if k.startswith("trace.metadata")} == {
        "trace.metadata.a": "call", "trace.metadata.b": "ambient", "trace.metadata.c": "default",
        "trace.metadata.x": "body",
    }  # fmt: skip
    assert (first["session.id"], first["user.id"]) == ("header", "from baggage")
    assert second["session.id"] == "body"


def test_bind_passes_the_block_to_other_threads(client: Any, spans: CapturedSpans) -> None:
    with spancast.trace(trace_name="Support", session_id="s") as scope, ThreadPoolExecutor(4) as pool:
        list(pool.map(scope.bind(lambda _: chat(client)), range(4)))
    assert len(spans.tree()["Support"]) == 4
    assert {attributes(span)["session.id"] for span in spans.calls()} == {"s"}


async def test_five_hundred_tasks_keep_their_own_session(server: ReplayServer, spans: CapturedSpans) -> None:
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as made:
        client = spancast.instrument(made)

        async def one(number: int) -> None:
            with spancast.trace(session_id=f"s-{number}", number=number):
                await client.chat.completions.create(model="m", messages=MESSAGES)

        for start in range(0, 500, 50):
            await asyncio.gather(*(one(number) for number in range(start, start + 50)))
    pairs = {(attributes(s)["session.id"], attributes(s)["trace.metadata.number"]) for s in spans.all()}
    assert pairs == {(f"s-{number}", number) for number in range(500)}


def test_strict_raises_before_the_request(server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.configure(tracer_provider=spans.provider, strict=True)
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k"))
    with pytest.raises(spancast.TraceKeyError, match=r"trace\.trace_id: int given, a string of 1 to 1024"):
        chat(client, trace={"trace_id": 42})
    with (
        pytest.raises(spancast.SpancastError, match="session_id: 257 characters"),
        spancast.trace(session_id="s" * 257),
    ):
        chat(client)
    client.close()
    assert server.requests == []


def test_wrong_keys_do_not_fail_the_call(client: Any, spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        answer = chat(client, trace={"trace_id": 42, "ok": 1}, session_id="s" * 300)
        assert answer.choices[0].message.content
    assert len([r for r in caplog.records if "trace.trace_id" in r.getMessage()]) == 1
    assert len(attributes(spans.all()[0])["spancast.validation_errors"]) == 2


def test_call_with_enabled_false_is_not_recorded(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    chat(client, trace={"enabled": False})
    with spancast.trace(enabled=False):
        chat(client)
    assert spans.all() == []
    assert all("trace" not in request.body for request in server.requests)


def test_foreign_and_noop_providers_do_not_fail_the_call(server: ReplayServer) -> None:
    """ddtrace's provider has no processors and its tracer no id generator; the no-op provider has neither."""
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k"))
    spancast.configure(tracer_provider=trace_api.NoOpTracerProvider())
    try:
        chat(client, trace={"trace_id": "t", "trace_name": "Support"})
        assert "trace" not in server.requests[0].body
    finally:
        spancast.shutdown()
        client.close()


def test_configure_leaves_the_global_provider_alone(spans: CapturedSpans) -> None:
    before = trace_api.get_tracer_provider()
    spancast.configure(service_name="x")
    assert trace_api.get_tracer_provider() is before
    spancast.configure(tracer_provider=spans.provider)


def test_group_registry_is_bounded(spans: CapturedSpans) -> None:
    from spancast.model.trace_keys import read
    from spancast.tracing.group_spans import MAX_GROUPS

    for number in range(MAX_GROUPS + 10):
        parent = CALL_TRACER.group_spans.resolve_parent(
            read({"trace_id": str(number), "trace_name": "g"}), context_api.get_current()
        )
        CALL_TRACER.group_spans.release(parent.groups, 1)
    assert len(CALL_TRACER.group_spans._open) == MAX_GROUPS
    assert spancast.stats().groups_evicted == 10


def test_unsampled_traces_stay_unsampled(server: ReplayServer) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    with captured_spans(tracer_provider=TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)) as spans:
        with openai.OpenAI(base_url=server.base_url, api_key="k") as made:
            chat(spancast.instrument(made), trace={"trace_name": "Support"})
        assert spans.all() == []


FORWARDING = {
    ("https://openrouter.ai/api/v1", "auto"): True,
    ("https://eu.openrouter.ai/api/v1", "auto"): True,
    ("https://openrouter.ai.evil.example/v1", "auto"): False,
    ("https://api.openai.com/v1", "auto"): False,
    ("https://api.openai.com/v1", "always"): True,
    ("https://openrouter.ai/api/v1", "never"): False,
}


@pytest.mark.parametrize(("base_url", "forward_trace_keys"), FORWARDING)
def test_keys_are_forwarded_to_openrouter_with_our_ids(
    base_url: str, forward_trace_keys: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    # httpx2, of old versions httpx.
    httpx: Any = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__)
    sent: list[Any] = []

    def answer(request: Any) -> Any:
        sent.append(__import__("json").loads(request.content))
        return httpx.Response(
            200, json={"id": "x", "object": "chat.completion", "choices": [], "model": "m", "created": 1}
        )

    spancast.configure(tracer_provider=spans.provider, forward_trace_keys=forward_trace_keys)
    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = spancast.instrument(openai.OpenAI(base_url=base_url, api_key="k", http_client=http))
        with spancast.trace(session_id="ambient", feature="f"):
            chat(client, trace={"trace_id": "order", "generation_name": "g", "odd": {"a": [1]}})
        chat(client)
    call = spans.all()[0]
    if FORWARDING[base_url, forward_trace_keys]:
        assert sent[0]["session_id"] == "ambient"
        assert sent[0]["trace"] == {
            "trace_id": "order", "generation_name": "g", "odd": {"a": [1]}, "feature": "f",
            "parent_span_id": f"{call.context.span_id:016x}",
        }  # fmt: skip
    else:
        assert "trace" not in sent[0]
        assert "session_id" not in sent[0]
    assert "trace" not in sent[1]


def test_groups_that_end_during_joins_end_once() -> None:
    """Each call that joins a group gets an open one; all groups end once, and none is held at the end."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    group_spans = GroupSpans(lambda: SpanFactory(provider))
    keys = [
        trace_keys.read({"trace_id": f"t-{at % 2}", "trace_name": "T", "span_name": f"s-{at % 3}"}) for at in range(6)
    ]
    gate, found = threading.Barrier(5), list[str]()

    def join(seed: int) -> None:
        gate.wait()
        for at in range(300):
            parent = group_spans.resolve_parent(keys[(at * seed) % len(keys)], Context())
            found.extend(group.span.name for group in parent.groups if not group.span.is_recording())
            group_spans.release(parent.groups, time.time_ns())

    def end() -> None:
        gate.wait()
        for _ in range(300):
            group_spans.end_idle()

    threads = [threading.Thread(target=join, args=(seed,)) for seed in (1, 3, 5, 7)] + [threading.Thread(target=end)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == []
    (parent,) = {
        id(parent): parent
        for parent in [group_spans.resolve_parent(keys[0], Context()), group_spans.resolve_parent(keys[0], Context())]
    }.values()
    assert [group.ref_count for group in parent.groups] == [2, 2]
    group_spans.release(parent.groups, 1)
    group_spans.release(parent.groups, 1)
    group_spans.end_idle()
    assert all(not group.span.is_recording() and group.ref_count == 0 for group in parent.groups)
    ids = [span.context.span_id for span in exporter.get_finished_spans() if span.context]
    assert len(ids) == len(set(ids))
