"""Make three calls with the global provider of another library; print the spans of its exporter and our destination.

Run by ``test_other_instrumentations.py``: ``global_provider_program.py LIBRARY BASE_URL FILE``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai

import spancast


def main(library: str, base_url: str, file: str) -> None:
    theirs: Any = None
    if library == "logfire":
        import logfire
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        theirs = InMemorySpanExporter()
        logfire.configure(
            send_to_logfire=False, console=False, additional_span_processors=[SimpleSpanProcessor(theirs)]
        )
        logfire.instrument_openai()
    else:
        from ddtrace.opentelemetry import TracerProvider
        from opentelemetry import trace

        trace.set_tracer_provider(TracerProvider())
    spancast.configure(spool="memory", destinations={"file": {"type": "file", "path": file, "spans": "all"}})
    spancast.instrument()
    request: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    answers: list[str] = []
    with openai.OpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
        answers.append(str(client.chat.completions.create(**request).choices[0].message.content))
        answers.append(
            "".join(
                c.choices[0].delta.content or ""
                for c in client.chat.completions.create(**request, stream=True)
                if c.choices
            )
        )
        try:
            client.chat.completions.create(**{**request, "model": "refused"})
        except openai.APIStatusError as error:
            answers.append(type(error).__name__)
    spancast.flush(30)
    spans = theirs.get_finished_spans() if theirs is not None else ()
    names = [span.name for span in spans if "pending" not in str(span.attributes.get("logfire.span_type"))]
    print(json.dumps({"answers": answers, "theirs": names, "counts": spancast.stats().as_dict()}))


main(*sys.argv[1:])
