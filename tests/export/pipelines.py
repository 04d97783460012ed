"""A tracer provider with a real export pipeline, for tests of delivery."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

from spancast.destinations.config import DestinationConfig
from spancast.destinations.encoder_config import shared_redaction
from spancast.destinations.protocol import Destination
from spancast.destinations.registry import config_model
from spancast.export.delivery_worker import Route
from spancast.export.filtering import DestinationFilter
from spancast.export.flush_report import FlushReport
from spancast.export.pipeline import ExportPipeline, routes_of
from spancast.export.spool.directory import open_spool

MAX_BYTES = 256 << 20
PATIENCE_S = 60.0
"""Ends a test that would hang; no outcome depends on it."""


def pipeline_to(
    destinations: dict[str, dict[str, Any]], directory: Path | None, *, max_bytes: int = MAX_BYTES
) -> ExportPipeline:
    configs = {name: config_model(given["type"]).model_validate(given) for name, given in destinations.items()}
    return ExportPipeline(
        routes_of(configs),
        open_spool(directory, max_bytes, 1e9),
        redaction=shared_redaction(list(configs.values())),
        is_durable=directory is not None,
    )


def pipeline_with(destinations: Mapping[str, Destination], directory: Path | None) -> ExportPipeline:
    """Return a pipeline to destination objects, for example with a database in this process."""
    rules = DestinationConfig.model_validate({"type": "any", "spans": "all"})
    routes = [Route(name, DestinationFilter(name, rules), destination) for name, destination in destinations.items()]
    return ExportPipeline(routes, open_spool(directory, MAX_BYTES, 1e9), is_durable=directory is not None)


def around(tracer: Tracer, position: int, odd: dict[str, Any], count: int = 201) -> tuple[list[Any], tuple[str, str]]:
    """Make ``count`` spans; that at ``position`` has the attributes ``odd``; return the other spans and that one."""
    made = [call(tracer, number, **(odd if number == position else {})) for number in range(count)]
    return made[:position] + made[position + 1 :], made[position]


@contextmanager
def tracing(pipeline: ExportPipeline) -> Iterator[Tracer]:
    provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource({"service.name": "tests"}), shutdown_on_exit=False)
    provider.add_span_processor(pipeline.processor)
    yield provider.get_tracer("spancast", "1")


def call(tracer: Tracer, number: int = 0, **attributes: Any) -> tuple[str, str]:
    """Make one ended GenAI span; return its ids in hex."""
    given = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": number,
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"canary question"}]}]',
        **attributes,
    }
    with tracer.start_as_current_span("chat gpt-4o", attributes=given) as span:
        context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def otlp(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "otlp", "endpoint": url, "spans": "all", "timeout": PATIENCE_S, **more}


def report_when(flush: Callable[[float], FlushReport], wanted: Callable[[FlushReport], object]) -> FlushReport:
    """Flush again and again until ``wanted`` is true of the report; return that report.

    For destinations that never take what they get: a single flush with a short time limit ends before
    the first attempt if the machine is busy. Returns the last report if none was as wanted.
    """
    until_s = time.monotonic() + PATIENCE_S
    while True:
        report = flush(0.05)
        if wanted(report) or time.monotonic() > until_s:
            return report
