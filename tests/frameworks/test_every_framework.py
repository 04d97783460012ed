"""Real frameworks over real SDKs: one span per request, under the caller's span, with its keys; results unchanged.

``make frameworks`` installs them. Each case runs without spancast first, and its result is compared.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from tests.frameworks.driver import FRAMEWORKS, REQUIRED, SERVERS, Case, settle, why_skipped

import spancast
from spancast.testing import CapturedSpans, ReplayServer, captured_spans

_SESSION = "chat-42"
_MODEL_CALLS = {"chat", "text_completion", "generate_content", "embeddings"}


@functools.cache
def driver(name: str) -> Any:
    return importlib.import_module(f"tests.frameworks.{FRAMEWORKS[name].module}")


def cases(*, traced: bool) -> Iterator[Any]:
    """Return each framework with each case; with ``traced``, those of frameworks with tracing of their own."""
    for name in REQUIRED or FRAMEWORKS:
        reason = why_skipped(name)
        if reason is not None:
            if not traced:
                yield pytest.param(name, None, id=name, marks=pytest.mark.skip(reason=reason))
            continue
        module = driver(name)
        if not traced or hasattr(module, "own_tracing"):
            found = {**module.CASES, **(getattr(module, "TRACED_CASES", {}) if traced else {})}
            yield from (pytest.param(name, case, id=f"{name}-{label}") for label, case in found.items())


@contextmanager
def instrumented() -> Iterator[None]:
    spancast.instrument()
    try:
        yield
    finally:
        spancast.uninstrument()


def outcome(case: Case, server: ReplayServer) -> tuple[Any, list[Any]]:
    """Run ``case``; return what the caller got and the requests."""
    first = len(server.requests)
    SERVERS.append(server)
    if case.replies:
        server.reply(*case.replies)
    try:
        got = case.run(server)
    except Exception as error:
        if type(error).__name__ != case.raises:
            raise
        got = type(error).__name__
    settle()
    requests = [(request.path, request.body) for request in server.requests[first:]]
    # A failed call may leave replies to the retries that it did not make.
    server._scripts.clear()
    return json.loads(json.dumps(got, default=str)), requests


def unchanging(requests: list[Any]) -> list[Any]:
    """Return ``requests`` in any order, without ids that a framework makes anew."""
    text = (json.dumps(request, sort_keys=True) for request in requests)
    return sorted(re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|run-[\w-]+|call_\w+|\d{9,}", "ID", one) for one in text)


@pytest.mark.parametrize(("name", "case"), [*cases(traced=False)])
def test_each_request_has_one_span_under_the_caller(name: str, case: Case, server: ReplayServer) -> None:
    check(case, server, lambda _: nullcontext(), is_traced=False)


@pytest.mark.parametrize(("name", "case"), [*cases(traced=True)])
def test_framework_with_its_own_tracing_has_one_span_per_request(name: str, case: Case, server: ReplayServer) -> None:
    check(case, server, driver(name).own_tracing, is_traced=True)


@pytest.mark.parametrize(
    "name", [n for n in REQUIRED or FRAMEWORKS if not why_skipped(n) and hasattr(driver(n), "TREE")]
)
def test_framework_with_spans_of_its_own_is_the_parent(name: str, server: ReplayServer) -> None:
    with captured_spans() as spans, instrumented(), driver(name).own_tracing(spans.provider):
        outcome(driver(name).CASES["conversation"], server)
        assert spans.tree() == driver(name).TREE


def check(case: Case, server: ReplayServer, own_tracing: Any, *, is_traced: bool) -> None:
    # Without spancast, the SDK rejects the keys.
    bare, sent = (None, None) if case.keys else outcome(case, server)
    with captured_spans() as spans, instrumented():
        tracer = spans.provider.get_tracer("app")
        block: AbstractContextManager[Any] = nullcontext() if case.keys else spancast.trace(session_id=_SESSION)
        with own_tracing(spans.provider), tracer.start_as_current_span("app") as app, block:
            got, requests = outcome(case, server)
        if sent is not None:
            assert got == bare
            assert unchanging(requests) == unchanging(sent)
        assert len(requests) == case.calls or case.raises
        assert not any({"trace", "session_id"} & set(body) for _, body in requests)
        calls = model_calls(spans)
        assert len(calls) == len(requests), [(span.name, span.instrumentation_scope.name) for span in calls]
        if not is_traced:
            assert {span.instrumentation_scope.name for span in calls} == {"spancast"}
        by_id = {span.context.span_id: span for span in spans.all()}
        for span in calls:
            assert root_of(span, by_id) == app.get_span_context().span_id
            attributes = dict(span.attributes or {})
            assert "sk-secret" not in str(attributes)
            assert attributes.items() >= (case.keys or {"session.id": _SESSION}).items()
        if case.raises:
            assert all(span.status.status_code.name == "ERROR" for span in calls)
        if case.ends:
            assert re.fullmatch(case.ends, str(calls[-1].attributes.get("spancast.response.incomplete")))
    assert not spancast.stats().internal_errors


def model_calls(spans: CapturedSpans) -> list[Any]:
    """Return the spans of calls of a model, whoever made them."""
    return [span for span in spans.calls() if (span.attributes or {}).get("gen_ai.operation.name") in _MODEL_CALLS]


def root_of(span: ReadableSpan, by_id: dict[int, ReadableSpan]) -> int:
    while span.parent is not None and span.parent.span_id in by_id:
        span = by_id[span.parent.span_id]
    return span.parent.span_id if span.parent is not None else span.context.span_id
