"""Who is measured: how each one is set up, called and flushed, as its own documentation says."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from benchmarks.cases import SESSION, USER, Case
from benchmarks.environments import HERE
from benchmarks.provider import CLIENTS, client_class, http_client, method

_MINUTE_MS = 60_000


@dataclass(kw_only=True)
class Running:
    """A contestant at work in this process: one client, the ways to call it, the way to be sure all has been sent."""

    client: Any
    call: Callable[[Any], Any]
    acall: Callable[[Any], Any]
    flush: Callable[[], Any] = field(default=lambda: None)


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """``package`` is named in the tables with its version; ``environ`` is what its process is started with."""

    start: Callable[[Case], Running]
    package: str = ""
    environment: str = HERE
    apis: tuple[str, ...] = ("chat", "responses")
    keys: bool = False
    """Has trace keys: the case that measures them is for it."""
    environ: dict[str, str] = field(default_factory=dict)
    baseline: str = "none"
    """The contestant that makes the same calls uninstrumented, in the same environment."""
    is_baseline: bool = False

    def takes(self, case: Case) -> bool:
        return case.api in self.apis and (self.keys or case.keys is None)


def _plain(case: Case, client: Any = None, sdk: ModuleType | None = None, **more: Any) -> Running:
    sdk = sdk or importlib.import_module(CLIENTS[case.api])
    if client is None:
        client = client_class(sdk, case)(api_key="sk-test", http_client=http_client(sdk, case), max_retries=0)
    request = {**case.request, **more}

    def call(client: Any) -> None:
        answer = method(client, case)(**request)
        if case.is_stream:
            for _ in answer:
                pass

    async def acall(client: Any) -> None:
        await method(client, case)(**request)

    return Running(client=client, call=call, acall=acall)


def _provider() -> Any:
    # Each contestant loads only what it needs.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # Not made global: the anthropic SDK would write spans of its own there.
    return provider


def _start_bare(case: Case) -> Running:
    from benchmarks.bare import Bare  # noqa: PLC0415

    provider = _provider()
    running = _plain(case)
    bare = Bare(provider.get_tracer("bare"), case)
    running.call, running.acall = bare.call, bare.acall
    running.flush = lambda: provider.force_flush(_MINUTE_MS)
    return running


def _start_spancast(case: Case) -> Running:
    import os  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    import spancast  # noqa: PLC0415

    # As an application that lives with it: one destination, the spool on disk.
    spancast.configure(
        spool={"path": tempfile.mkdtemp(prefix="spancast-bench-")},
        destinations={"bench": {"type": "otlp", "endpoint": os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"], "spans": "all"}},
    )
    keys = {"trace": case.keys, "session_id": SESSION, "user": USER} if case.keys is not None else {}
    running = _plain(case, **keys)
    running.client = spancast.instrument(running.client)
    running.flush = lambda: spancast.flush(60.0)
    return running


def _instrumentor(module: str) -> Callable[[Case], Running]:
    def start(case: Case) -> Running:
        provider = _provider()
        importlib.import_module(module).OpenAIInstrumentor().instrument(tracer_provider=provider)
        running = _plain(case)
        running.flush = lambda: provider.force_flush(_MINUTE_MS)
        return running

    return start


def _start_langfuse(case: Case) -> Running:
    from langfuse import get_client  # noqa: PLC0415
    from langfuse.openai import openai  # noqa: PLC0415

    client = get_client()
    running = _plain(case, sdk=openai)
    running.flush = client.flush
    return running


def _start_logfire(case: Case) -> Running:
    import logfire  # noqa: PLC0415

    logfire.configure(send_to_logfire=False, console=False, metrics=False)
    running = _plain(case)
    logfire.instrument_openai(running.client)
    running.flush = lambda: logfire.force_flush(_MINUTE_MS)
    return running


def _start_posthog(case: Case) -> Running:
    import os  # noqa: PLC0415

    import openai  # noqa: PLC0415
    from posthog import Posthog  # noqa: PLC0415
    from posthog.ai import openai as wrapped  # noqa: PLC0415

    hog = Posthog("phc_test", host=os.environ["BENCH_RECEIVER"])
    kind = client_class(wrapped, case)
    client = kind(api_key="sk-test", http_client=http_client(openai, case), max_retries=0, posthog_client=hog)
    running = _plain(case, client=client)
    running.flush = hog.flush
    return running


def _start_braintrust(case: Case) -> Running:
    import braintrust  # noqa: PLC0415

    logger = braintrust.init_logger(project="bench", project_id="00000000-0000-4000-8000-000000000001")
    running = _plain(case)
    running.client = braintrust.wrap_openai(running.client)
    running.flush = logger.flush
    return running


def _start_litellm(case: Case, *, traced: bool = True) -> Running:
    import litellm  # noqa: PLC0415

    litellm.suppress_debug_info = True
    running = _plain(case)
    if traced:
        litellm.callbacks = ["otel"]

    def call(client: Any) -> None:
        answer = litellm.completion(client=client, api_key="sk-test", max_retries=0, **case.request)
        if case.is_stream:
            for _ in answer:
                pass

    async def acall(client: Any) -> None:
        await litellm.acompletion(client=client, api_key="sk-test", max_retries=0, **case.request)

    def flush() -> None:
        from litellm.litellm_core_utils.thread_pool_executor import executor  # noqa: PLC0415
        from opentelemetry import trace  # noqa: PLC0415

        # Its callbacks run on threads of its own; one worker's queue is emptied in order.
        waiting = [executor.submit(lambda: None) for _ in range(executor._max_workers)]  # noqa: SLF001
        for one in waiting:
            one.result(60)
        trace.get_tracer_provider().force_flush(_MINUTE_MS)

    running.call, running.acall = call, acall
    if traced:
        running.flush = flush
    return running


_GENAI = {
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
}
_ALL_APIS = ("chat", "responses", "messages")
_CHAT = ("chat",)

CONTESTANTS: dict[str, Contestant] = {
    "none": Contestant(start=_plain, apis=_ALL_APIS, keys=True, is_baseline=True),
    "bare": Contestant(start=_start_bare, package="opentelemetry-sdk", apis=_ALL_APIS, keys=True),
    "spancast": Contestant(start=_start_spancast, package="spancast", apis=_ALL_APIS, keys=True),
    "genai-openai": Contestant(
        start=_instrumentor("opentelemetry.instrumentation.genai.openai"),
        package="opentelemetry-instrumentation-genai-openai",
        environ=_GENAI,
    ),
    "traceloop": Contestant(
        start=_instrumentor("opentelemetry.instrumentation.openai"), package="opentelemetry-instrumentation-openai"
    ),
    "openinference": Contestant(
        start=_instrumentor("openinference.instrumentation.openai"), package="openinference-instrumentation-openai"
    ),
    "langfuse": Contestant(
        start=_start_langfuse,
        package="langfuse",
        environment="langfuse",
        baseline="none@langfuse",
        environ={"LANGFUSE_PUBLIC_KEY": "pk-lf-test", "LANGFUSE_SECRET_KEY": "sk-lf-test"},
    ),
    "logfire": Contestant(start=_start_logfire, package="logfire", environment="logfire", baseline="none@logfire"),
    "posthog": Contestant(start=_start_posthog, package="posthog", environment="posthog", baseline="none@posthog"),
    "braintrust": Contestant(
        start=_start_braintrust,
        package="braintrust",
        environment="braintrust",
        baseline="none@braintrust",
        environ={"BRAINTRUST_API_KEY": "sk-test"},
    ),
    "litellm": Contestant(
        start=_start_litellm, package="litellm", environment="litellm", baseline="none@litellm", apis=_CHAT
    ),
    **{
        f"none@{name}": Contestant(start=_plain, environment=name, is_baseline=True)
        for name in ("langfuse", "logfire", "posthog", "braintrust")
    },
    "none@litellm": Contestant(
        start=lambda case: _start_litellm(case, traced=False), environment="litellm", apis=_CHAT, is_baseline=True
    ),
}
PEERS = tuple(name for name, one in CONTESTANTS.items() if not one.is_baseline and name not in {"bare", "spancast"})
