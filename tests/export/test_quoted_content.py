"""What a destination quotes of a prompt or an answer is not logged, reported or kept as a reason."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.trace import Status, StatusCode
from tests.destinations.otlp_receiver import OtlpReceiver, Reply, grpc_status, partial, status
from tests.export.pipelines import PATIENCE_S, call, otlp, pipeline_to, report_when, tracing

from spancast.export import delivery_worker as worker_module

SECRET = 'Merge "Acme"\nand Zürich\\Basel before the 4th of May, with 12 million in cash'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "FIRST_BACKOFF_S", 0.02)


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def quoted(code: int, text: str) -> Reply:
    return status(code, text.encode())


@pytest.mark.parametrize(
    "reply",
    [
        quoted(400, f"invalid span: {SECRET}"),
        quoted(400, json.dumps({"error": {"message": "invalid span", "input": SECRET}})),
        quoted(400, json.dumps({"error": {"message": "invalid span", "input": SECRET}}, ensure_ascii=False)),
        quoted(503, f"cannot store: {SECRET}"),
        partial(1, f"too long: {SECRET}"),
    ],
)
@pytest.mark.parametrize("where", ["messages", "status", "event", "another instrumentation"])
def test_content_in_answer_of_destination_is_replaced(
    where: str, reply: Reply, receiver: OtlpReceiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receiver.answer_with(reply)
    pipeline = pipeline_to({"one": otlp(receiver.url)}, tmp_path)
    message = json.dumps([{"role": "user", "parts": [{"type": "text", "content": SECRET}]}])
    with tracing(pipeline) as tracer:
        if where == "messages":
            call(tracer, **{"gen_ai.input.messages": message})
        elif where == "another instrumentation":
            call(tracer, **{"llm.input_messages.0.message.content": SECRET})
        else:
            with tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}) as span:
                if where == "event":
                    span.add_event("gen_ai.user.message", {"gen_ai.prompt": SECRET})
                else:
                    span.set_status(Status(StatusCode.ERROR, SECRET))
    report = report_when(pipeline.flush, lambda report: report.destinations["one"].last_error)
    reasons = [letter.reason for letter in pipeline.spool.dead_letters()]
    pipeline.shutdown()
    for shown in (str(report), caplog.text, *reasons):
        assert "12 million" not in shown
        assert "Merge" not in shown
    assert "[content]" in str(report)


@pytest.mark.parametrize("text", ["unknown attribute gen_ai.input.messages", "the message is too long"])
def test_own_words_of_destination_are_kept(text: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    receiver.answer_with(quoted(400, text))
    pipeline = pipeline_to({"one": otlp(receiver.url)}, tmp_path)
    with tracing(pipeline) as tracer:
        call(tracer)
    assert text in str(pipeline.flush(PATIENCE_S))
    pipeline.shutdown()


def test_content_in_grpc_status_is_replaced(receiver: OtlpReceiver, tmp_path: Path) -> None:
    receiver.answer_with(grpc_status("INVALID_ARGUMENT", "no: canary question"))
    pipeline = pipeline_to({"one": otlp(f"http://{receiver.grpc_target}", protocol="grpc")}, tmp_path)
    with tracing(pipeline) as tracer:
        call(tracer)
    assert "(no: [content])" in str(pipeline.flush(PATIENCE_S))
    pipeline.shutdown()
