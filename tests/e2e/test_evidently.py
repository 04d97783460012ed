"""The destination `evidently` with the server of Evidently: what its list of traces has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.e2e.engines import Evidently

import spancast
from spancast import runtime
from spancast.demo.conversation import SESSION, converse
from spancast.demo.providers import connect
from spancast.testing import ReplayServer

SECRET = "s3cret-of-the-server"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidently]:
    with Evidently(tmp_path_factory.mktemp("evidently"), secret=SECRET) as running:
        yield running


def converse_to(server: Evidently, **fields: str) -> spancast.FlushReport:
    entry = {"type": "evidently", "base_url": server.url, "secret": SECRET, **fields}
    provider = TracerProvider(shutdown_on_exit=False)
    spancast.configure(tracer_provider=provider, spool="memory", destinations={"evidently": entry})
    try:
        with ReplayServer(openrouter=True) as providers:
            converse(providers, connect(providers), "order-7781, evidently")
            runtime.CALL_TRACER.group_spans.end_all()
            return spancast.flush(60)
    finally:
        spancast.shutdown()


def test_list_has_the_trace_of_the_user_with_its_calls(server: Evidently) -> None:
    project, dataset = server.create_dataset()
    report = converse_to(server, project_id=project, dataset_id=dataset)
    assert report.destinations["evidently"].delivered == 10, str(report)
    [(group, [trace])] = server.sessions(dataset).items()
    assert group.startswith("u-7:"), "by users, if spans have both"
    spans: dict[str, dict[str, Any]] = {one["span_name"]: one for one in trace["spans"]}
    assert len(trace["spans"]) == 10
    attributes = spans["classify"]["attributes"]
    assert attributes["gen_ai.request.model"] == "openai/gpt-5.2"
    assert (attributes["session_id"], attributes["user_id"]) == (SESSION, "u-7")
    assert attributes["gen_ai.response.finish_reasons"] == '["stop"]'
    assert [attributes[name] for name in ("tokens.input", "tokens.output", "cost.total")] == ["31", "1", "0.000145"]


def test_dataset_id_that_is_no_uuid_is_not_lost_in_silence(server: Evidently) -> None:
    report = converse_to(server, project_id="p", dataset_id="no-uuid")
    counts = report.destinations["evidently"]
    assert (bool(report), counts.delivered) == (False, 0)
    assert "500" in str(counts.last_error)
