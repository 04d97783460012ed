"""The measured libraries: how each is set up, called and flushed, following its own documentation."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cases import OPEN_KEYS, SESSION, USER, Case
from benchmarks.environments import HERE
from benchmarks.provider import client_class, http_client, method
from benchmarks.running import Running, baseline, plain

_MINUTE_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A measured library. ``package`` and its version are in the tables; ``environ`` is added to its process."""

    start: Callable[[Case], Running]
    package: str = ""
    environment: str = HERE
    apis: tuple[str, ...] = ("chat", "responses")
    cases: tuple[str, ...] = ()
    """The only cases to measure it in; all that it supports if empty."""
    keys: bool = False
    """Supports trace keys."""
    environ: dict[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ("openai",)
    """Modules to import before measuring; none of them patches an SDK when imported."""
    program: tuple[str, ...] = ()
    """The command, with arguments, that starts its interpreter."""
    baseline: Callable[[Case], Running] = baseline
    """Returns the uninstrumented client of the same process; called before ``start``."""

    def supports(self, case: Case) -> bool:
        is_wanted = not self.cases or case.name in self.cases
        return is_wanted and case.api in self.apis and (self.keys or case.keys is None)


def _provider() -> Any:
    # Local imports: each candidate loads only what it needs.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # Not the global provider: the anthropic SDK would write its own spans there.
    return provider


def _manual(name: str) -> Callable[[Case], Running]:
    def start(case: Case) -> Running:
        from benchmarks import bare  # noqa: PLC0415

        provider = _provider()
        running = plain(case)
        manual = getattr(bare, name)(provider.get_tracer("bare"), case)
        running.call, running.acall, running.open = manual.call, manual.acall, manual.open
        running.flush = lambda: provider.force_flush(_MINUTE_MS)
        return running

    return start


def _configure_spancast(**more: Any) -> None:
    import os  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    import spancast  # noqa: PLC0415

    # A typical production setup: one destination, the spool on disk.
    spancast.configure(
        spool={"path": tempfile.mkdtemp(prefix="spancast-bench-")},
        destinations={"bench": {"type": "otlp", "endpoint": os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"], "spans": "all"}},
        **more,
    )


def _start_spancast(case: Case, open_keys: dict[str, Any] | None = None, **more: Any) -> Running:
    import spancast  # noqa: PLC0415

    _configure_spancast(**more)
    keys: dict[str, Any] = {} if open_keys is None else {"trace": open_keys}
    if case.keys is not None:
        keys = {"trace": case.keys, "session_id": SESSION, "user": USER}
    running = plain(case, **keys)
    running.client = spancast.instrument(running.client)
    running.flush = lambda: spancast.flush(60.0)
    return running


def _function(case: Case) -> Running:
    """Return the calls of a function of the application that makes the request of ``case``."""
    running = baseline(case)
    client = running.client

    def ask(**request: Any) -> Any:
        return method(client, case)(**request)

    def chunks(**request: Any) -> Any:
        yield from method(client, case)(**request)

    return _calling(running, chunks if case.is_stream else ask, case)


def _calling(running: Running, function: Callable[..., Any], case: Case) -> Running:
    running.client = function

    def call(function: Any) -> Any:
        return function(**case.request)

    running.call = running.open = call
    return running


def _start_decorated(case: Case) -> Running:
    import spancast  # noqa: PLC0415

    _configure_spancast()
    running = _function(case)
    running.client = spancast.instrument(running.client, dialect="openai_chat", base_url="https://api.openai.com/v1")
    running.flush = lambda: spancast.flush(60.0)
    return running


def _start_around_client(case: Case) -> Running:
    import spancast  # noqa: PLC0415

    running = _start_spancast(case)
    client = running.client

    @spancast.instrument
    def ask(**request: Any) -> Any:
        return method(client, case)(**request)

    return _calling(running, ask, case)


def _start_open_groups(case: Case) -> Running:
    from opentelemetry import trace  # noqa: PLC0415

    running = _start_spancast(case, OPEN_KEYS, set_global=True)
    # As in a server: the spans are exported, and the groups stay open. ``spancast.flush`` would end them.
    running.flush = lambda: trace.get_tracer_provider().force_flush(_MINUTE_MS)
    return running


class _Discard:
    """A destination of spancast that encodes a batch and does not send it."""

    def deliver(self, payload: Any, timeout_s: float) -> None:  # noqa: ARG002 - spancast's protocol
        payload.body("protobuf", gzip=False)


def _start_own_exporter(case: Case) -> Running:
    import spancast  # noqa: PLC0415

    # The receiver counts the spans of the application's exporter; a second delivery would count them twice.
    provider = _provider()
    spancast.configure(tracer_provider=provider, spool="memory", destinations={"bench": _Discard()})
    running = plain(case)
    running.client = spancast.instrument(running.client)

    def flush() -> None:
        provider.force_flush(_MINUTE_MS)
        spancast.flush(60.0)

    running.flush = flush
    return running


def _start_spancast_metrics(case: Case) -> Running:
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415

    import spancast  # noqa: PLC0415

    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    running = _start_spancast(case, meter_provider=meters)

    def flush() -> None:
        # One collection per flush, far more often than in production.
        reader.get_metrics_data()
        spancast.flush(60.0)

    running.flush = flush
    return running


def _instrumentor(module: str) -> Callable[[Case], Running]:
    def start(case: Case) -> Running:
        provider = _provider()
        importlib.import_module(module).OpenAIInstrumentor().instrument(tracer_provider=provider)
        running = plain(case)
        running.flush = lambda: provider.force_flush(_MINUTE_MS)
        return running

    return start


def _start_langfuse(case: Case) -> Running:
    from langfuse import get_client  # noqa: PLC0415
    from langfuse.openai import openai  # noqa: PLC0415

    client = get_client()
    running = plain(case, sdk=openai)
    running.flush = client.flush
    return running


def _start_logfire(case: Case) -> Running:
    import logfire  # noqa: PLC0415

    logfire.configure(send_to_logfire=False, console=False, metrics=False)
    running = plain(case)
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
    running = plain(case, client=client)
    running.flush = hog.flush
    return running


def _start_braintrust(case: Case) -> Running:
    import braintrust  # noqa: PLC0415

    logger = braintrust.init_logger(project="bench", project_id="00000000-0000-4000-8000-000000000001")
    running = plain(case)
    running.client = braintrust.wrap_openai(running.client)
    running.flush = logger.flush
    return running


def _litellm(case: Case) -> Running:
    import litellm  # noqa: PLC0415

    litellm.suppress_debug_info = True
    running = plain(case)

    def call(client: Any) -> Any:
        return litellm.completion(client=client, api_key="sk-test", max_retries=0, **case.request)

    async def acall(client: Any) -> None:
        await litellm.acompletion(client=client, api_key="sk-test", max_retries=0, **case.request)

    running.call, running.acall, running.open = call, acall, call
    return running


def _start_litellm(case: Case) -> Running:
    import litellm  # noqa: PLC0415

    running = _litellm(case)
    # Its callbacks are global to the process; the baseline is called while they are off.
    kept: dict[str, list[Any]] = {name: [] for name in _LITELLM_LISTS}
    kept["callbacks"] = ["otel"]

    def drain() -> None:
        from litellm.litellm_core_utils.thread_pool_executor import executor  # noqa: PLC0415

        # Its callbacks run on a thread pool; a job per thread waits for those before it.
        futures = [executor.submit(lambda: None) for _ in range(executor._max_workers)]  # noqa: SLF001
        for future in futures:
            future.result(60)

    def on() -> None:
        drain()
        for name, callbacks in kept.items():
            getattr(litellm, name)[:] = callbacks

    def off() -> None:
        for name in kept:
            kept[name] = list(getattr(litellm, name))
            getattr(litellm, name).clear()

    def flush() -> None:
        from opentelemetry import trace  # noqa: PLC0415

        drain()
        trace.get_tracer_provider().force_flush(_MINUTE_MS)

    running.on, running.off, running.flush = on, off, flush
    running.is_switch = True
    return running


def _zero_code_baseline(case: Case) -> Running:
    import spancast  # noqa: PLC0415

    # `opentelemetry-instrument` has already patched the classes: undo it while the baseline is created.
    spancast.uninstrument()
    running = baseline(case)
    spancast.instrument()
    return running


def _start_zero_code(case: Case) -> Running:
    from opentelemetry import trace  # noqa: PLC0415

    running = plain(case)
    running.flush = lambda: trace.get_tracer_provider().force_flush(_MINUTE_MS)
    return running


_LITELLM_LISTS = (
    "callbacks", "input_callback", "success_callback", "failure_callback", "service_callback",
    "_async_input_callback", "_async_success_callback", "_async_failure_callback",
)  # fmt: skip
_GENAI = {
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
}
_ALL_APIS = ("chat", "responses", "messages")
_CHAT = ("chat",)

_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_SDK = ("openai", "anthropic", "opentelemetry.sdk.trace.export", _EXPORTER)
_ZERO_CODE = {
    # Disables every other instrumentation installed here.
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "openai,urllib3",
    "OTEL_TRACES_EXPORTER": "otlp",
}

METRICS = "spancast, metrics on"
DECORATED = "spancast, decorated function"
AROUND_CLIENT = "spancast, decorated, client too"
"""A decorated function around an instrumented client: one span, of the function."""
OPEN_GROUPS = "spancast, open groups"
"""Three trace keys per call, of two groups that stay open."""

CANDIDATES: dict[str, Candidate] = {
    "none": Candidate(start=plain, apis=_ALL_APIS, keys=True, modules=_SDK),
    "an empty span": Candidate(
        start=_manual("Empty"), package="opentelemetry-sdk", apis=_ALL_APIS, keys=True, modules=_SDK
    ),
    "bare": Candidate(start=_manual("Bare"), package="opentelemetry-sdk", apis=_ALL_APIS, keys=True, modules=_SDK),
    "bare again": Candidate(
        start=_manual("Bare"), package="opentelemetry-sdk", apis=_ALL_APIS, keys=True, modules=_SDK
    ),
    "spancast": Candidate(
        start=_start_spancast, package="spancast", apis=_ALL_APIS, keys=True, modules=(*_SDK, "spancast")
    ),
    "spancast, own exporter": Candidate(
        start=_start_own_exporter, package="spancast", apis=_ALL_APIS, modules=(*_SDK, "spancast")
    ),
    "spancast, metrics on": Candidate(
        start=_start_spancast_metrics,
        package="spancast",
        apis=_CHAT,
        modules=(*_SDK, "opentelemetry.sdk.metrics.export", "spancast"),
    ),
    DECORATED: Candidate(
        start=_start_decorated,
        package="spancast",
        cases=("short", "long", "stream", "error"),
        modules=(*_SDK, "spancast"),
        baseline=_function,
    ),
    AROUND_CLIENT: Candidate(
        start=_start_around_client,
        package="spancast",
        cases=("short",),
        modules=(*_SDK, "spancast"),
        baseline=_function,
    ),
    OPEN_GROUPS: Candidate(start=_start_open_groups, package="spancast", cases=("short",), modules=(*_SDK, "spancast")),
    "spancast, zero-code": Candidate(
        start=_start_zero_code,
        package="spancast",
        environ=_ZERO_CODE,
        program=("opentelemetry-instrument",),
        modules=_SDK,
        baseline=_zero_code_baseline,
    ),
    "genai-openai": Candidate(
        start=_instrumentor("opentelemetry.instrumentation.genai.openai"),
        package="opentelemetry-instrumentation-genai-openai",
        environ=_GENAI,
        modules=(*_SDK, "opentelemetry.instrumentation.genai.openai"),
    ),
    "traceloop": Candidate(
        start=_instrumentor("opentelemetry.instrumentation.openai"),
        package="opentelemetry-instrumentation-openai",
        modules=(*_SDK, "opentelemetry.instrumentation.openai"),
    ),
    "openinference": Candidate(
        start=_instrumentor("openinference.instrumentation.openai"),
        package="openinference-instrumentation-openai",
        modules=(*_SDK, "openinference.instrumentation.openai"),
    ),
    "langfuse": Candidate(
        start=_start_langfuse,
        package="langfuse",
        environment="langfuse",
        environ={"LANGFUSE_PUBLIC_KEY": "pk-lf-test", "LANGFUSE_SECRET_KEY": "sk-lf-test"},
        modules=("openai", "langfuse"),
    ),
    "logfire": Candidate(start=_start_logfire, package="logfire", environment="logfire", modules=("openai", "logfire")),
    "posthog": Candidate(
        start=_start_posthog, package="posthog", environment="posthog", modules=("openai", "posthog.ai.openai")
    ),
    "braintrust": Candidate(
        start=_start_braintrust,
        package="braintrust",
        environment="braintrust",
        environ={"BRAINTRUST_API_KEY": "sk-test"},
        modules=("openai", "braintrust"),
    ),
    "litellm": Candidate(
        start=_start_litellm,
        package="litellm",
        environment="litellm",
        apis=_CHAT,
        modules=("openai", "litellm"),
        baseline=_litellm,
    ),
}
FLOOR = "an empty span"
OWN_EXPORTER = "spancast, own exporter"
"""spancast with the application's tracer provider, which has an exporter of its own."""
OWN = (
    "none", FLOOR, "bare", "bare again", "spancast", OWN_EXPORTER, METRICS, DECORATED, AROUND_CLIENT, OPEN_GROUPS,
    "spancast, zero-code",
)  # fmt: skip
"""The candidates that check the benchmark, those that spancast is compared with, and spancast."""
PEERS = tuple(name for name in CANDIDATES if name not in OWN)
ENQUEUES_ONLY = frozenset({"litellm"})
"""Peers that record on another thread: shown, but not compared with on the calling thread."""
