"""Other libraries that wrap calls of openai, with the operations that ``peers_orders_program`` needs.

A row starts its library without a network and returns a ``Peer``.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

_ENTERED = ExitStack()
"""Context managers that stay open until the process ends."""


@dataclass
class Peer:
    """One library in this process.

    ``on(None)`` wraps the SDK's classes, ``on(client)`` returns the client to use. ``recorded`` is the number of calls
    recorded until now.
    """

    on: Callable[[Any], Any]
    recorded: Callable[[], int]
    off: Callable[[], object] | None = None


def _of_class(patch: Callable[[], Any]) -> Callable[[Any], Any]:
    """Return ``patch``, which wraps the SDK's classes, as a function of a client."""

    def on(client: Any) -> Any:
        if client is None:
            patch()
        return client

    return on


def _spans() -> tuple[Any, Any]:
    """Return a tracer provider and its in-memory exporter."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def _instrumentor(module: str) -> Callable[[], Peer]:
    def start() -> Peer:
        provider, exporter = _spans()
        instrumentor = importlib.import_module(module).OpenAIInstrumentor()
        return Peer(
            on=_of_class(lambda: instrumentor.instrument(tracer_provider=provider)),
            off=instrumentor.uninstrument,
            recorded=lambda: len(exporter.get_finished_spans()),
        )

    return start


def _braintrust(*, is_of_class: bool) -> Callable[[], Peer]:
    def start() -> Peer:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import braintrust
        from braintrust import logger as logging
        from braintrust.test_helpers import init_test_logger

        logger = _ENTERED.enter_context(logging._internal_with_memory_background_logger())
        init_test_logger("spancast")
        found: list[Any] = []

        def recorded() -> int:
            found.extend(logger.pop())
            return len(found)

        if is_of_class:
            switches = inspect.signature(braintrust.auto_instrument).parameters.values()
            only = {one.name: one.name == "openai" for one in switches if isinstance(one.default, bool)}
            return Peer(on=_of_class(lambda: braintrust.auto_instrument(**only)), recorded=recorded)
        return Peer(on=lambda c: c and braintrust.wrap_openai(c), recorded=recorded)

    return start


def _langsmith() -> Peer:
    import requests
    from langsmith import Client
    from langsmith.run_helpers import tracing_context
    from langsmith.wrappers import wrap_openai

    runs: list[bytes] = []

    class Kept(requests.Session):
        def request(self, method: str, url: str, **given: Any) -> Any:
            # Posted at its start, patched at its end. If a coroutine function is handled as a plain one, the
            # coroutine is recorded as the response.
            if method == "PATCH" and b"coroutine" not in given["data"]:
                runs.append(given["data"])
            response = requests.Response()
            response.status_code, response._content = 202, b"{}"
            return response

    client = Client(api_url="http://127.0.0.1:9", api_key="k", auto_batch_tracing=False, session=Kept())
    _ENTERED.enter_context(tracing_context(enabled=True))
    return Peer(
        on=lambda c: c and wrap_openai(c, tracing_extra={"client": client}),
        recorded=lambda: len(runs),
    )


def _langfuse() -> Peer:
    from langfuse import Langfuse

    provider, exporter = _spans()
    Langfuse(
        public_key="pk",
        secret_key="sk",
        base_url="http://127.0.0.1:9",
        tracer_provider=provider,
        span_exporter=exporter,
    )
    return Peer(
        on=_of_class(lambda: importlib.import_module("langfuse.openai")),
        recorded=lambda: len({span.context.span_id for span in exporter.get_finished_spans()}),
    )


def _posthog() -> Peer:
    import openai
    from posthog import Posthog
    from posthog.ai.openai import AsyncOpenAI, OpenAI

    events: list[Any] = []
    posthog = Posthog("k", host="http://127.0.0.1:9", sync_mode=True, before_send=lambda event: events.append(event))

    def on(client: Any) -> Any:
        if client is None:
            return None
        kind = OpenAI if isinstance(client, openai.OpenAI) else AsyncOpenAI
        return kind(posthog_client=posthog, base_url=str(client.base_url), api_key="k", max_retries=0)

    return Peer(on=on, recorded=lambda: len(events))


def _logfire(*, is_of_class: bool) -> Callable[[], Peer]:
    def start() -> Peer:
        import logfire
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        exporter = InMemorySpanExporter()
        logfire.configure(
            send_to_logfire=False, console=False, additional_span_processors=[SimpleSpanProcessor(exporter)]
        )
        undo: list[Any] = []

        def on(client: Any) -> Any:
            if (client is None) is is_of_class:
                done = logfire.instrument_openai(client)
                undo.append(done)
            return client

        def off() -> None:
            while undo:
                with undo.pop():
                    pass

        # A stream has two spans: one of the request and one of the chunks.
        return Peer(
            on=on, off=off,
            recorded=lambda: sum(
                span.name.startswith(("Chat", "chat", "Responses", "responses")) and "pending" not in str(span.attributes)
                for span in exporter.get_finished_spans()
            ),
        )  # fmt: skip

    return start


def _sentry() -> Peer:
    import sentry_sdk
    from sentry_sdk.integrations.openai import OpenAIIntegration
    from sentry_sdk.transport import Transport

    sent: list[Any] = []

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            sent.append(envelope)

    def patch() -> None:
        sentry_sdk.init(
            dsn="http://k@127.0.0.1:9/1", traces_sample_rate=1.0, transport=Kept, default_integrations=False,
            integrations=[OpenAIIntegration()],
        )  # fmt: skip

    return Peer(on=_of_class(patch), recorded=lambda: len(sent))


def _ddtrace() -> Peer:
    os.environ.update(
        DD_TRACE_ENABLED="true", DD_INSTRUMENTATION_TELEMETRY_ENABLED="false", DD_REMOTE_CONFIGURATION_ENABLED="false"
    )
    from ddtrace.contrib.internal.openai.patch import patch, unpatch
    from ddtrace.trace import TraceFilter, tracer

    found: list[Any] = []

    class Kept(TraceFilter):
        def process_trace(self, trace: Any) -> Any:
            found.extend(span for span in trace if span.name == "openai.request")

    tracer.configure(trace_processors=[Kept()])
    return Peer(on=_of_class(patch), off=unpatch, recorded=lambda: len(found))


def _mlflow() -> Peer:
    os.environ.update(
        MLFLOW_TRACKING_URI="file:" + tempfile.mkdtemp(), MLFLOW_ALLOW_FILE_STORE="true",
        MLFLOW_ENABLE_ASYNC_TRACE_LOGGING="false", MLFLOW_DISABLE_TELEMETRY="true",
    )  # fmt: skip
    import mlflow
    import mlflow.openai

    found: set[str | None] = {None}

    def recorded() -> int:
        found.add(mlflow.get_last_active_trace_id())
        return len(found)

    return Peer(on=_of_class(mlflow.openai.autolog), off=lambda: mlflow.openai.autolog(disable=True), recorded=recorded)


def _weave() -> Peer:
    from weave.integrations.openai.openai_sdk import get_openai_patcher
    from weave.trace.context.weave_client_context import set_weave_client_global
    from weave.trace.weave_client import WeaveClient

    ended: list[Any] = []

    class Server:
        """A trace server that accepts everything."""

        def __getattr__(self, name: str) -> Any:
            if name not in ("file_create", "obj_create", "table_create", "call_start", "call_end"):
                raise AttributeError(name)
            return lambda *given: self._take(name, given)

        def _take(self, name: str, given: Any) -> Any:
            if name == "call_end":
                ended.append(given)
            return SimpleNamespace(digest="d" * 43, object_id="o", id="i", trace_id="t", row_digests=[])

    client = WeaveClient("entity", "project", Server(), ensure_project_exists=False)
    set_weave_client_global(client)
    patcher = get_openai_patcher()

    def recorded() -> int:
        client.flush()
        return len(ended)

    return Peer(on=_of_class(patcher.attempt_patch), off=patcher.undo_patch, recorded=recorded)


GENAI = "opentelemetry.instrumentation.genai.openai"
OPENINFERENCE = "openinference.instrumentation.openai"
OPENLLMETRY = "opentelemetry.instrumentation.openai"


@dataclass(frozen=True)
class Row:
    """A library, by its module name, and its peculiarities."""

    module: str
    start: Callable[[], Peer]
    wraps: str = "class"
    """``class``, ``client``, or ``own`` if it makes clients itself."""

    is_otel: bool = False
    """Whether its spans are OpenTelemetry's; inside one of them, our span is omitted or suppressed."""

    not_recorded: tuple[str, ...] = ()
    """Methods that it does not wrap."""

    stays: bool = False
    """Whether its uninstrumentation leaves wrappers of its own."""

    checks_arguments: bool = False
    """Whether it binds the arguments to the method's signature, which has no trace keys."""


ROWS = {
    "braintrust": Row("braintrust", _braintrust(is_of_class=True)),
    "braintrust-client": Row("braintrust", _braintrust(is_of_class=False), wraps="client"),
    "ddtrace": Row("ddtrace", _ddtrace),
    "genai-openai": Row(GENAI, _instrumentor(GENAI), is_otel=True),
    "langfuse": Row("langfuse", _langfuse),
    "langsmith": Row("langsmith", _langsmith, wraps="client"),
    "logfire": Row("logfire", _logfire(is_of_class=True), is_otel=True),
    "logfire-client": Row("logfire", _logfire(is_of_class=False), wraps="client", is_otel=True),
    "mlflow": Row("mlflow", _mlflow),
    "openinference": Row(OPENINFERENCE, _instrumentor(OPENINFERENCE), is_otel=True),
    "openllmetry": Row(OPENLLMETRY, _instrumentor(OPENLLMETRY), is_otel=True, stays=True),
    "posthog": Row("posthog", _posthog, wraps="own"),
    "sentry": Row("sentry_sdk", _sentry, not_recorded=("parse",)),
    "weave": Row("weave", _weave, stays=True, checks_arguments=True),
}
