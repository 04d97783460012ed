"""Generate the tables of the documentation from the code: ``make docs``."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Any, Final, NamedTuple, get_args

from opentelemetry.sdk.metrics import MeterProvider
from pydantic.fields import FieldInfo

import spancast
from spancast import cli, testing
from spancast.cli.command import EXIT_STATUS
from spancast.config.env_vars import PREFIX
from spancast.config.settings import Settings, SpoolSettings
from spancast.destinations import protocol, registry
from spancast.destinations.config import FilterField, FilterOperator
from spancast.destinations.datadog import datadog_span
from spancast.destinations.otlp_vendors import OTLP_VENDORS
from spancast.destinations.posthog import event
from spancast.destinations.registry import DESTINATIONS, FieldDoc
from spancast.destinations.s3 import trace_object
from spancast.destinations.sql_rows import ROW_NAMES, row_texts
from spancast.encoding.conventions.registry import CONVENTIONS, convention_of
from spancast.encoding.span_data import ScopeData, SpanData
from spancast.export.flush_report import DestinationReport
from spancast.export.self_metrics import observe
from spancast.instrumentation.registry import CLIENTS, find_patches
from spancast.model import semconv
from spancast.statistics import DestinationStats, Stats
from spancast.tracing.client_metrics import ClientMetrics
from spancast.tracing.trace_block import CallIds, TraceBlock

ROOT = Path(__file__).parents[1]
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def clients() -> str:
    """Return the table of supported SDKs."""
    lines = [
        f"| `{name}`{' (by name)' if spec.by_name_only else ''} | {spec.min_version} | {_dialects(name)} |"
        for name, spec in CLIENTS.items()
    ]
    return "\n".join(["| SDK | oldest tested version | dialects |", "|---|---|---|", *lines])


def _dialects(client: str) -> str:
    if client == "dspy" or CLIENTS[client].by_name_only:
        return "by the URL of the request"
    return ", ".join(f"`{name}`" for name in find_patches(client).dialects)


def attributes() -> str:
    """Return the table of attribute names with their source."""
    names = sorted({value for name, value in vars(semconv).items() if name.isupper() and _is_attribute(value)})
    lines = [f"| `{name}{'…' if name.endswith('.') else ''}` | {_source(name)} |" for name in names]
    return "\n".join(["| attribute | source |", "|---|---|", *lines])


def _is_attribute(value: object) -> bool:
    return isinstance(value, str) and "." in value and not value.startswith("http")


def _source(name: str) -> str:
    if name.startswith("spancast."):
        return "spancast"
    if name.startswith("trace."):
        return "OpenRouter Broadcast"
    return (
        "GenAI conventions" if name.startswith(("gen_ai.", "openai.", "aws.bedrock.")) else "semantic conventions 1.44"
    )


def destinations() -> str:
    """Return the table of destination types."""
    lines = [
        f"| [{row.title}](#{kind}) | `{kind}` | `{row.convention}` | {f'`spancast[{row.extra}]`' if row.extra else ''} "
        f"| {_batch_limit(kind)} | {row.repeats} | {row.source} | {PROOFS[row.proof]} |"
        for kind, row in DESTINATIONS.items()
    ]
    head = [
        "| destination | `type` | convention | extra | batch limit | span sent twice | source | verified with |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *lines])


def _batch_limit(kind: str) -> str:
    vendor = OTLP_VENDORS.get(kind)
    if vendor is None:
        return DESTINATIONS[kind].batch_limit
    spans = [f"{vendor.max_batch_spans:,} spans"] if vendor.max_batch_spans else []
    return ", ".join([*spans, *([f"{vendor.max_batch_bytes:,} bytes"] if vendor.max_batch_bytes else [])])


def destination_names() -> str:
    """Return a paragraph with the names of all destination types."""
    return ", ".join(row.title for row in DESTINATIONS.values()) + "."


PROOFS = {
    "server": "the real server, in the tests",
    "emulator": "an emulator, in the tests",
    "readers": "real readers (DuckDB, polars), in the tests",
    "vendor": "the vendor's pages, SDK or source",
    "users": "others' configurations only: an assumption",
}

_NUMBERS = {"input tokens": 12_001, "cached tokens": 1_003, "cost": 0.012_34}
SEEN = {
    "session": {semconv.SESSION_ID: "s-1", semconv.CONVERSATION_ID: "s-1"},
    "user": {semconv.USER_ID: "u-1"},
    "`trace_name`": {semconv.TRACE_NAME: "t-1"},
    "own key `plan`": {semconv.TRACE_METADATA + "plan": "p-1"},
    "question": {semconv.INPUT_MESSAGES: '[{"role":"user","parts":[{"type":"text","content":"q-1"}]}]'},
    "answer": {semconv.OUTPUT_MESSAGES: '[{"role":"assistant","parts":[{"type":"text","content":"a-1"}]}]'},
    "input tokens": {semconv.USAGE_INPUT_TOKENS: _NUMBERS["input tokens"]},
    "cached tokens": {semconv.USAGE_CACHE_READ: _NUMBERS["cached tokens"]},
    "cost": {semconv.USAGE_COST: _NUMBERS["cost"]},
}
_VALUES = {"session": "s-1", "user": "u-1", "`trace_name`": "t-1", "own key `plan`": "p-1", "question": "q-1"}
_VALUES |= {"answer": "a-1", **{name: str(value) for name, value in _NUMBERS.items()}}


def attributes_by_convention() -> str:
    """Return the table of where a call has its session, messages, tokens and cost, read from the conventions."""
    lines = [f"| `{name}` | {' | '.join(_places(name, fact) for fact in SEEN)} |" for name in CONVENTIONS]
    return "\n".join([f"| convention | {' | '.join(SEEN)} |", "|---" * (len(SEEN) + 1) + "|", *lines])


def _call() -> SpanData:
    given = {semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: "m", semconv.USAGE_OUTPUT_TOKENS: 7}
    for attributes_of_fact in SEEN.values():
        given |= attributes_of_fact
    return SpanData(
        trace_id="1" * 32, span_id="2" * 16, parent_span_id="", name="call", kind=3, start_ns=0, end_ns=1,
        status="unset", status_message="", attributes=given, scope=ScopeData(semconv.SCOPE_NAME),
    )  # fmt: skip


OWN_FORMATS = {
    "tables, Parquet, Kafka, Redis, Firehose": lambda span: json.loads(row_texts([span], ROW_NAMES)[0]),
    "`s3`": lambda span: trace_object([span]),
    "`datadog`": datadog_span,
    "`posthog`": event,
}


def own_formats() -> str:
    """Return the same table for the formats that are not OTLP."""
    lines = [
        f"| {name} | {' | '.join(_paths(list(_flat(convert(_call()))), fact) for fact in SEEN)} |"
        for name, convert in OWN_FORMATS.items()
    ]
    return "\n".join([f"| format | {' | '.join(SEEN)} |", "|---" * (len(SEEN) + 1) + "|", *lines])


def _paths(leaves: Iterable[tuple[str, str]], fact: str) -> str:
    # The canonical attributes, in the column `attributes`, have every fact.
    found = [path for path, text in leaves if _VALUES[fact] in text and not path.startswith("attributes")]
    return ", ".join(f"`{path}`" for path in list(dict.fromkeys(found))[:2])


def _flat(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(value, (dict, list)):
        yield path, str(value)
        return
    for name, item in value.items() if isinstance(value, dict) else (("", item) for item in value):
        yield from _flat(item, f"{path}.{name}".strip("."))


class Product(NamedTuple):
    """Where a product shows the facts of ``SEEN``, and how that was verified.

    A fact that is missing in ``shown`` has no place of its own that is known.
    """

    verified: str
    shown: Mapping[str, str] = {}


_IN_METADATA = dict.fromkeys(("session", "user", "`trace_name`", "own key `plan`"), "metadata")
_AS_ATTRIBUTES = "attributes of the span"
_IN_TABLE = "the columns of `tables` above"
PRODUCTS: Mapping[str, Product] = {
    "langfuse": Product(
        "read by its server's own reader (its source of 2026-08-22), 2026-11",
        {
            "session": "session", "user": "user", "`trace_name`": "name of the trace",
            "own key `plan`": "metadata of the trace and of the observation", "question": "input of the observation",
            "answer": "output of the observation", "input tokens": "usage", "cached tokens": "usage details",
            "cost": "cost details; it wins over Langfuse's prices",
        },
    ),
    "langsmith": Product(
        "read in its SDK 0.15.1 and its page on OpenTelemetry, 2026-11",
        {
            **_IN_METADATA, "session": "thread", "question": "input of the run (an assumption)",
            "answer": "output of the run (an assumption)",
            "input tokens": "usage of the run", "cached tokens": "usage of the run", "cost": "cost of the run",
        },
    ),
    "arize": Product(
        "read in OpenInference 0.1.42, 2026-08; Arize AX itself was not tried",
        {
            **_IN_METADATA, "session": "session", "user": "user", "question": "input", "answer": "output",
            "input tokens": "tokens", "cached tokens": "token details", "cost": "cost (an assumption)",
        },
    ),
    "phoenix": Product(
        "tried with its server 20.26.1, 2026-11",
        {
            **_IN_METADATA, "session": "session, listed with its first question and last answer", "user": "user",
            "question": "input, also in the list of traces", "answer": "output, also in the list of traces",
            "input tokens": "tokens", "cached tokens": "token details", "cost": "cost (an assumption)",
        },
    ),
    "braintrust": Product(
        "read in its SDK 0.48.1 and its pages on OpenTelemetry, 2026-11",
        {
            **_IN_METADATA, "question": "input", "answer": "output", "input tokens": "metric `prompt_tokens`",
            "cached tokens": "metric `prompt_cached_tokens`", "cost": "metric `estimated_cost`",
        },
    ),
    "opik": Product(
        "read in its backend's mapping rules, 2026-11",
        {
            **_IN_METADATA, "session": "thread", "question": "input", "answer": "output", "input tokens": "usage",
            "cached tokens": "usage, `cache_read_input_tokens`", "cost": "cost; in older servers metadata only",
        },
    ),
    "weave": Product(
        "read in its trace server's source and weave 0.54, 2026-11",
        {
            **dict.fromkeys(("user", "`trace_name`", "own key `plan`", "cost"), "attributes of the call"),
            "session": "thread", "question": "inputs", "answer": "output", "input tokens": "usage (an assumption)",
        },
    ),
    "posthog": Product(
        "read in its documents, its SDK 7.91 and its capture service's source, 2026-11",
        {
            "session": "session of AI events", "user": "person", "`trace_name`": "property",
            "own key `plan`": "property", "question": "input of the generation", "answer": "output of the generation",
            "input tokens": "input tokens", "cached tokens": "property", "cost": "cost; it wins over PostHog's prices",
        },
    ),
    "datadog": Product(
        "read in its HTTP API reference and in ddtrace 4.16.0, 2026-11",
        {
            "session": "session", "user": "tag `user_id`", "`trace_name`": "tag and metadata",
            "own key `plan`": "tag and metadata", "question": "input messages", "answer": "output messages",
            "input tokens": "metric", "cached tokens": "metric", "cost": "metric",
        },
    ),
    "raindrop": Product(
        "read in raindrop-ai 0.0.75 and its page on OpenTelemetry, 2026-11",
        {"session": "conversation", "user": "user", "own key `plan`": "property", "cost": "cost (an assumption)"},
    ),
    "sentry": Product(
        "attributes of the span, read in @sentry/conventions 0.33.0. What begins with `trace.` would be dropped, by"
        " OpenRouter's page of 2026-09, so own keys begin with `metadata.`"
    ),
    "newrelic": Product("attributes of the span, read in its page on AI monitoring, 2026-11; 4,095 characters each"),
    "grafana": Product("attributes of the span, as in Tempo; read in its page on OTLP, 2026-11"),
    "elastic": Product(
        "fields of a document in `traces-generic.otel-default`, read in Elastic's and OpenRouter's pages, 2026-11"
    ),
    "otel-collector": Product("attributes of the span, tried with a Collector, 2026-11"),
    "webhook": Product("attributes of the span in OTLP JSON, read in OpenRouter's page, 2026-11"),
    "s3": Product("the fields of `s3` above, tried with moto 5.2.5, 2026-11; the form is that of OpenRouter's page"),
    "clickhouse": Product(f"{_IN_TABLE}, in upper case; tried with ClickHouse's engine (chdb 4.4), 2026-11"),
    "snowflake": Product(f"{_IN_TABLE}, in upper case; tried with fakesnow 0.12, 2026-11"),
    "bigquery": Product(f"{_IN_TABLE}; tried with bqemulator 1.4.0, 2026-11"),
    "mlflow": Product(
        "tried with its server 3.17.2, 2026-11",
        {
            "session": "`session.id` of the trace", "user": "`user.id` of the trace",
            "`trace_name`": "name of the trace", "own key `plan`": "tag of the trace",
            "question": "inputs, also in the list of traces", "answer": "outputs, also in the list of traces",
            "input tokens": "token usage", "cached tokens": "token usage",
            "cost": "cost; without it MLflow estimates one",
        },
    ),
    "jaeger": Product(f"{_AS_ATTRIBUTES}, tried with Jaeger, 2026-11"),
    "weave-agents": Product(
        "read in its trace server's source, 2026-11",
        {
            "session": "conversation", "user": "custom attribute", "`trace_name`": "custom attribute",
            "own key `plan`": "custom attribute", "question": "input messages", "answer": "output messages",
            "input tokens": "tokens", "cached tokens": "cached tokens", "cost": "custom attribute",
        },
    ),
    "signoz": Product(
        "read in its page on the telemetry it requires, 2026-11",
        {
            "input tokens": "tokens of the call", "cached tokens": "cached tokens of the call",
            "cost": "not read: SigNoz has prices of its own",
        },
    ),
    "axiom": Product(
        "read in its page on manual instrumentation, 2026-11",
        {"`trace_name`": "capability, without which a call is not recognized"},
    ),
    "laminar": Product(
        "read in its server's source of 2026-06-30 and its SDK, 2026-11",
        {
            "session": "session", "user": "user", "own key `plan`": "metadata", "question": "input of the span",
            "answer": "output of the span",
        },
    ),
    "langwatch": Product(
        "read by its server's own reader, 2026-11",
        {
            "session": "thread", "user": "user", "`trace_name`": "metadata", "own key `plan`": "metadata",
            "question": "input", "answer": "output", "input tokens": "prompt tokens", "cost": "cost",
        },
    ),
    "lunary": Product(
        "read by its server's own reader (its public source of 2025-10), 2026-11",
        {"question": "input", "answer": "output", "input tokens": "prompt tokens"},
    ),
    "honeyhive": Product(
        "read in its SDK, 2026-11", {"session": "session, a UUID of its text (that it is taken is an assumption)"}
    ),
    "fiddler": Product(
        "read in its SDK, 2026-11",
        {
            "session": "conversation", "user": "attribute of the session", "own key `plan`": "attribute of the span",
            "question": "user's input of the model", "answer": "output of the model",
        },
    ),
    "respan": Product(
        "read in its SDK 2.24.0, 2026-11", {"session": "thread", "user": "customer", "own key `plan`": "metadata"}
    ),
    "logfire": Product("read in its SDK, 2026-11; the line shown is the name of the span", {"cost": "cost"}),
    "coralogix": Product(
        "read in its page on span attributes, 2026-11",
        {
            "user": "user (an assumption)", "question": "messages", "answer": "messages",
            "input tokens": "tokens",
        },
    ),
    "evidently": Product(
        "tried with its server 0.7.23, in `make engines`, 2026-11",
        {
            "session": "groups the list of traces", "user": "groups the list of traces",
            "input tokens": "sums of the trace", "cost": "sums of the trace",
        },
    ),
    "promptlayer": Product(f"{_AS_ATTRIBUTES}; the conventions that it reads are those of its SDK, 2026-11"),
    "agenta": Product(
        "read by its server's own reader (its source of 2026-08-22), 2026-11",
        {
            "session": "session", "user": "user", "own key `plan`": "metadata", "question": "inputs",
            "answer": "outputs", "input tokens": "metrics", "cached tokens": "metrics", "cost": "metrics",
        },
    ),
    "galileo": Product(f"{_AS_ATTRIBUTES}; the conventions that it reads are those of its SDK, 2026-11"),
    "xray": Product(f"{_AS_ATTRIBUTES}, read in Amazon's page on its OTLP endpoints, 2026-11"),
    "google-cloud-trace": Product(f"{_AS_ATTRIBUTES}, read in Google's reference of `v1.traces.post`, 2026-11"),
    "azure-monitor": Product(f"{_AS_ATTRIBUTES}, read in Microsoft's page on OTLP ingestion, 2026-11"),
    **{
        kind: Product(f"{_AS_ATTRIBUTES} (an assumption, from configurations of others, 2026-11)")
        for kind in ("uptrace", "hyperdx", "betterstack", "splunk", "lightstep", "maxim")
    },
    "helicone": Product(
        "read in its server's source, 2026-11; it shows every call as successful",
        {
            "session": "session", "user": "user", "`trace_name`": "name of the session", "own key `plan`": "property",
            "question": "request", "answer": "response", "input tokens": "prompt tokens",
        },
    ),
    "fallom": Product(f"{_AS_ATTRIBUTES} as OpenRouter's Broadcast sends it (an assumption, 2026-11)"),
    **{
        kind: Product(f"{_AS_ATTRIBUTES}; which of them it shows in places of their own was not read")
        for kind in ("honeycomb", "dynatrace", "traceloop")
    },
}  # fmt: skip
"""Broadcast's products first. A place that was not read or tried is marked as an assumption."""


def what_you_see() -> str:
    """Return a table per product: by which name it gets each fact, and where it shows it."""
    return "\n\n".join(_product(kind, product) for kind, product in PRODUCTS.items())


def _product(kind: str, product: Product) -> str:
    title, form = DESTINATIONS[kind].title, OWN_FORMATS.get(f"`{kind}`")
    if not product.shown:
        return f"**{title}**: {product.verified}."
    leaves = None if form is None else list(_flat(form(_call())))
    lines = [
        f"| {fact} | {_places(DESTINATIONS[kind].convention, fact) if leaves is None else _paths(leaves, fact)} "
        f"| {product.shown.get(fact, '')} |"
        for fact in SEEN
    ]
    head = ["| you set, or the call has | it arrives as | the product shows it as |", "|---|---|---|"]
    return "\n".join([f"**{title}**: {product.verified}.", "", *head, *lines])


def _places(convention: str, fact: str) -> str:
    span, given = _call(), _call().attributes
    convert = convention_of(convention)
    mapped = span if convert is None else convert(span)
    found = [name for name, value in mapped.attributes.items() if _VALUES[fact] in str(value)]
    # Names that the convention added say more than those of the canonical span.
    added = [name for name in found if name not in given]
    return ", ".join(f"`{name}`" for name in (added or found)[:2])


def conventions() -> str:
    """Return the table of attribute conventions."""
    lines = [f"| `{name}` | {row.about} |" for name, row in CONVENTIONS.items()]
    return "\n".join(["| `convention` | format of spans |", "|---|---|", *lines])


def destination_fields() -> str:
    """Return a section per type with the table of its specific fields."""
    return "\n\n".join(_section(kind) for kind in DESTINATIONS)


def _section(kind: str) -> str:
    row = DESTINATIONS[kind]
    aliases = [f"`{alias}`" for alias, name in registry.ALIASES.items() if name == kind]
    also = f" Also written {', '.join(aliases)}." if aliases else ""
    own = [field for field in registry.fields(kind) if not field.is_common]
    return f"### {kind}\n\n{row.about}{also}\n\n{_fields(own) if own else 'No fields of its own.'}"


def common_fields() -> str:
    """Return the table of the fields that all types have."""
    return _fields(field for field in registry.fields("langfuse") if field.is_common)


def filter_rules() -> str:
    """Return the table of the allowed values in a filter rule."""
    lines = [
        f"| {key} | {', '.join(f'`{name}`' for name in get_args(allowed))} |"
        for key, allowed in (("`field`", FilterField), ("`operator`", FilterOperator))
    ]
    return "\n".join(["| key of a rule | one of |", "|---|---|", *lines])


def _fields(fields: Iterable[FieldDoc]) -> str:
    lines = [f"| `{field.name}` | {_default(field)} | {_about(field)} |" for field in fields]
    return "\n".join(["| field | default | meaning |", "|---|---|---|", *lines])


def _default(field: FieldDoc) -> str:
    return "required" if field.required else f"`{field.default}`" if field.default else ""


def _about(field: FieldDoc) -> str:
    allowed = f" One of {', '.join(f'`{choice}`' for choice in field.choices)}." if field.choices else ""
    return _cell(f"{field.about}{allowed}{' Secret.' if field.is_secret else ''}")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def settings() -> str:
    """Return the table of the fields of ``spancast.yaml``, each with its environment variable."""
    lines = [
        f"| `{name}` | `{PREFIX}{name.upper()}` | {_setting(info)} | {_cell(info.description or '')} |"
        for name, info in Settings.model_fields.items()
    ]
    lines += [
        f"| `spool.{name}` | | {_setting(info)} | {_cell(info.description or '')} |"
        for name, info in SpoolSettings.model_fields.items()
    ]
    return "\n".join(["| field | variable | default | meaning |", "|---|---|---|---|", *lines])


COUNTERS: Mapping[str, tuple[str, str]] = {
    "received": ("spans that reached spancast", "0: nothing is recorded; see the first steps above"),
    "queued": ("spans on their way to the spool, now", "growing: more spans than one thread can spool"),
    "dropped": ("spans lost before any destination, by reason", "the next table"),
    "destinations": ("the counters of each destination", "the third table"),
    "spans_started": ("spans that spancast has started for calls", "0: no instrumented call was made"),
    "spans_failed": ("calls that ended with an error", "`spancast traces --errors`"),
    "calls_suppressed": (
        "calls where OpenTelemetry's instrumentation is suppressed, for example inside an exporter",
        "intended; `suppress_instrumentation` of another library is active",
    ),
    "calls_merged": (
        "calls whose span another instrumentation has made; spancast adds to it",
        "intended; remove the other one if spancast is to make the span",
    ),
    "keys_not_traced": (
        "calls with trace keys whose method has no span (images, files, …); the keys were removed",
        "use `with spancast.trace(...)` around them, or leave the keys out",
    ),
    "requests_not_read": (
        "requests of an HTTP library whose body is a stream or a form",
        "send the body as JSON text or by `json=`",
    ),
    "groups_evicted": (
        "group spans that were ended early, as too many were open",
        "use blocks instead of keys on calls",
    ),
    "group_texts_evicted": ("groups without question and answer, as too many waited for their end", "none needed"),
    "validation_errors": (
        "invalid trace keys or parameters, and answers that are no response of the dialect",
        "the attribute `spancast.validation_errors` names them; `strict: true` raises instead",
    ),
    "redaction_errors": (
        "values that a mask could not process; the whole value was replaced",
        "a simpler pattern, or a function",
    ),
    "internal_errors": ("defects of spancast; the call was not affected", "report it, with the line of the log"),
    "patches_not_found": (
        "methods that this version of an SDK does not have",
        "usually none; if calls are missing, set the logger `spancast` to DEBUG, which names them",
    ),
    "spool_unavailable": (
        "attempts at a spool file that could not be used (rights, full disk, locked)",
        "the log has the reason; spans wait in memory",
    ),
    "spool_memory_fallback": ("spans that waited in memory meanwhile", "lost only if the process is killed"),
    "spool_corrupt_files": ("spool files that were damaged and renamed", "check the disk"),
    "spool_corrupt_records": ("spans in damaged records; they are dead letters", "check the disk"),
}
DESTINATION_COUNTERS: Mapping[str, tuple[str, str]] = {
    "delivered": ("spans that the destination accepted", "if they are not in the product: its project, time, filters"),
    "delivered_by_others": ("of these, delivered by another process that shares the spool", "intended"),
    "delivered_for_others": ("of these, made by another or an earlier process", "intended"),
    "sampled_out": ("`sampling_rate`, `respect_parent_sampling`", "raise the rate; `always_keep_errors`"),
    "filtered": ("`filter_rules`, `api_keys`, or no call of the trace was taken", "`spancast explain TRACE_ID`"),
    "non_genai": ("spans of other libraries (HTTP, database)", "`spans: all` sends them"),
    "rejected": ("spans that an OTLP server refused in a partial success", "the log has the server's message"),
    "dead_lettered": (
        "spans that the destination refused for good",
        "`spancast spool` shows why; correct it, then `spancast spool requeue NAME`",
    ),
    "dropped": ("spans that were queued and are lost, by reason", "the next table"),
    "queued": ("spans that wait for it, now", "`spancast spool` shows the last error and the next attempt"),
    "queued_bytes": ("their size in the spool", "as `queued`"),
    "retries": ("batches that were or will be sent again", "`spancast check` tests the connection"),
    "filter_timeouts": ("patterns of `filter_rules` that took too long; the span was sent", "a simpler pattern"),
}
DROP_REASONS: Mapping[str, tuple[str, str, str]] = {
    "not_configured": ("process", "the configuration could not be read", "the log has the error; `spancast check`"),
    "queue_full": (
        "process",
        "spans ended faster than one thread spools them, for seconds",
        "fewer spans, or more processes",
    ),
    "after_shutdown": ("process", "the span ended after `spancast.shutdown()`", "shut down last"),
    "internal_error": ("process", "a defect of spancast", "report it, with the line of the log"),
    "shutdown": (
        "both",
        "the process ended with spans in memory: `spool: memory`, or a disk that cannot be used",
        "a spool on disk; a higher `shutdown_timeout`",
    ),
    "spool_full": (
        "destination",
        "more than `spool.max_bytes` waited; the oldest were dropped",
        "a larger spool; sampling",
    ),
    "expired": ("destination", "they waited for longer than `spool.max_age`", "repair the destination"),
    "purged": ("destination", "`spancast spool purge`", "intended"),
    "evicted": ("destination", "another process has removed them, for a reason that is no longer known", "none"),
    "spool_damaged": ("destination", "the spool file was damaged", "check the disk; `sqlite3 FILE .recover`"),
    "spool_replaced": ("destination", "the spool file was removed or replaced while in use", "do not delete it"),
}


def counters() -> str:
    """Return the table of the counters of a process."""
    return _counters(Stats, COUNTERS)


def destination_counters() -> str:
    """Return the table of the counters of a destination."""
    return _counters(DestinationStats, DESTINATION_COUNTERS)


def _counters(kind: type[Any], known: Mapping[str, tuple[str, str]]) -> str:
    lines = [f"| `{one.name}` | {known[one.name][0]} | {known[one.name][1]} |" for one in dataclasses.fields(kind)]
    return "\n".join(["| counter | counts | what to do |", "|---|---|---|", *lines])


def drop_reasons() -> str:
    """Return the table of the reasons of dropped spans."""
    lines = [f"| `{name}` | {of} | {cause} | {cure} |" for name, (of, cause, cure) in DROP_REASONS.items()]
    return "\n".join(["| reason | counted for | cause | what to do |", "|---|---|---|---|", *lines])


def metrics() -> str:
    """Return the table of the instruments, as an SDK meter provider creates them."""
    provider = MeterProvider()
    meter = _NamedInstruments(provider)
    ClientMetrics(meter, "", lambda: None)
    observe(meter.get_meter("spancast"), lambda: None)
    provider.shutdown()
    lines = [f"| `{name}` | {kind} | `{unit}` | {METRICS[name]} |" for name, (kind, unit) in sorted(meter.made.items())]
    return "\n".join(["| metric | instrument | unit | meaning |", "|---|---|---|---|", *lines])


class _NamedInstruments:
    """A meter provider that notes which instruments are created."""

    def __init__(self, provider: MeterProvider) -> None:
        self._meter = provider.get_meter("spancast")
        self.made: dict[str, tuple[str, str]] = {}

    def get_meter(self, *_: object) -> Any:  # noqa: ANN401 - stands for a meter
        return self

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - create_counter, …
        create = getattr(self._meter, method)

        def note(name: str, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - an instrument
            # The unit is the first text after the name.
            unit = named.get("unit") or next(one for one in given if isinstance(one, str))
            self.made[name] = (method.removeprefix("create_").replace("_", " "), unit)
            return create(name, *given, **named)

        return note


METRICS: Mapping[str, str] = {
    "gen_ai.client.inference.duration": "how long calls took; with `error.type` if they failed",
    "gen_ai.client.inference.time_to_first_chunk": "of streams",
    "gen_ai.client.inference.time_per_output_chunk": "between two chunks of a stream, with `chunk_metrics`",
    "gen_ai.client.inference.operation.input_tokens": "input tokens per call",
    "gen_ai.client.inference.operation.output_tokens": "output tokens per call",
    "gen_ai.client.inference.usage.input_tokens": "sum of input tokens, by `gen_ai.token.modality`",
    "gen_ai.client.inference.usage.output_tokens": "sum of output tokens, by `gen_ai.token.modality`",
    "gen_ai.client.inference.usage.cache_read.input_tokens": "sum of tokens read from a cache",
    "gen_ai.client.inference.usage.cache_write.input_tokens": "sum of tokens written to a cache",
    "gen_ai.client.inference.usage.reasoning.output_tokens": "sum of reasoning tokens",
    "gen_ai.client.embeddings.duration": "how long embeddings took",
    "otel.sdk.processor.span.processed": "`received`; with `error.type`: `dropped`, by reason",
    "otel.sdk.exporter.span.exported": "`delivered` per destination; with `error.type`: spans that it did not get",
    "otel.sdk.exporter.span.inflight": "`queued` per destination",
    "spancast.spool.queued": "`queued_bytes` per destination",
}

_LINE: Final = 90
_RETURNED = SimpleNamespace(
    TraceBlock=TraceBlock,
    CallIds=CallIds,
    DestinationReport=DestinationReport,
    Stats=Stats,
    DestinationStats=DestinationStats,
)
API = {
    "spancast": (spancast, spancast.__all__),
    "spancast.testing": (testing, testing.__all__),
    "spancast.destinations.protocol": (protocol, protocol.__all__),
    "Objects that these return": (_RETURNED, tuple(vars(_RETURNED))),
}


def api() -> str:
    """Return the signature and the docstring of every public name."""
    return "\n\n".join(
        "\n\n".join([f"## {module}", *(_described(name, getattr(found, name)) for name in names)])
        for module, (found, names) in API.items()
    )


def _described(name: str, found: Any) -> str:  # noqa: ANN401 - any public object
    text = [f"### {name}"]
    if signature := _signature(name, found):
        text.append(f"```\n{signature}\n```")
    if isinstance(found, UnionType):
        text.append(" or ".join(f"`{one.__name__}`" for one in get_args(found)))
    elif inspect.getdoc(found):
        text.append(_markdown(inspect.getdoc(found) or ""))
    if inspect.isclass(found) and not issubclass(found, Exception):
        text += [
            f"**`{_signature(method, value, is_folded=False)}`** {_markdown(inspect.getdoc(value) or '')}"
            for method, value in _methods(found)
        ]
    return "\n\n".join(text)


def _methods(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    for method, value in vars(kind).items():
        is_method = inspect.isroutine(value) or isinstance(value, property)
        if is_method and not method.startswith("_") and inspect.getdoc(value):
            yield method, value


def _signature(name: str, found: Any, *, is_folded: bool = True) -> str:  # noqa: ANN401 - any public object
    if isinstance(found, property):
        return name
    if inspect.isclass(found) and (issubclass(found, Exception) or getattr(found, "_is_protocol", False)):
        return ""
    try:
        signature = inspect.signature(getattr(found, "__func__", found))
    except (TypeError, ValueError):
        return ""
    kept = [one for one in signature.parameters.values() if one.name not in {"self", "cls"}]
    text = _unquoted(str(signature.replace(parameters=kept))).replace("typing.", "").replace(", /", "")
    line = f"{name}{text.replace('<factory>', '...')}".removesuffix(" -> None")
    if len(line) <= _LINE or not is_folded:
        return line
    start, _, result = line.rpartition(")")
    parameters = [_unquoted(str(one)).replace("<factory>", "...") for one in kept]
    if any(one.kind is one.KEYWORD_ONLY for one in kept) and not any(one.kind is one.VAR_POSITIONAL for one in kept):
        parameters.insert(next(n for n, one in enumerate(kept) if one.kind is one.KEYWORD_ONLY), "*")
    return "\n".join([start.partition("(")[0] + "(", *(f"    {one}," for one in parameters), ")" + result])


def _unquoted(signature: str) -> str:
    """Return a signature without the quotes of its annotations."""
    return signature.replace("= ''", '= ""').replace("'", "")


def _markdown(docstring: str) -> str:
    """Return a docstring of Google's form as Markdown."""
    lines = []
    for line in docstring.replace("``", "`").splitlines():
        section = re.fullmatch(r"(Args|Returns|Raises|Invariants):", line)
        item = re.match(r" {4}(\*{0,2}\w+): (.*)", line)
        if section:
            lines.append(f"*{section[1]}*")
            lines.append("")
        else:
            lines.append(f"- `{item[1]}`: {item[2]}" if item else line.strip() if line.startswith("    ") else line)
    return "\n".join(lines)


def _setting(info: FieldInfo) -> str:
    default = info.default
    if info.default_factory is not None or default is None:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def commands() -> str:
    """Return the table of commands, each with an example."""
    rows = [
        f"| `{name}` | {_cell(summary)} | `{_cell(example)}` |" for name, summary, example in _commands(cli.parser())
    ]
    return "\n".join(["| command | what it does | example |", "|---|---|---|", *rows])


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, str]]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other list of commands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                yield (
                    command.prog,
                    str(command.description).partition(". ")[0].removesuffix(".").replace("\n", " "),
                    command.example,
                )
                yield from _commands(command)


def exit_statuses() -> str:
    """Return the table of exit statuses."""
    rows = [f"| {status} | {meaning} |" for status, meaning in EXIT_STATUS.items()]
    return "\n".join(["| exit status | meaning |", "|---|---|", *rows])


PERFORMANCE = ROOT / "docs" / "performance.md"
OTHERS = {
    "genai-openai": "OpenTelemetry's own (GenAI)", "traceloop": "OpenLLMetry", "openinference": "OpenInference",
    "langfuse": "Langfuse", "logfire": "Logfire", "posthog": "PostHog", "braintrust": "Braintrust",
}  # fmt: skip
"""Other libraries that are measured on the same client, by the name in the first table of docs/performance.md."""


def _measured() -> dict[str, list[str]]:
    """Return the rows of the first table of docs/performance.md."""
    lines = PERFORMANCE.read_text().partition("| ---")[2].partition("\n\n")[0].splitlines()[1:]
    return {row[0]: row[1:] for line in lines if (row := [cell.strip() for cell in line.strip("|").split("|")])}


def overhead() -> str:
    """Return the first promise of the README, with the figures of docs/performance.md."""
    rows = {name: int(cells[0].partition(" /")[0]) / 1000 for name, cells in _measured().items()}
    others = [rows[name] for name in OTHERS]
    return (
        "- **It never hurts the call.** Your code gets the same object and the same exception. A short call of `openai`"
        f" costs your thread {rows['spancast']:.2f} ms, a span written by hand {rows['a span written by hand']:.2f} ms,"
        f" and {len(others)} other tracing libraries {min(others):.2f} to {max(others):.2f} ms"
        " ([measured](docs/performance.md))."
    )


def comparison() -> str:
    """Return the rows of docs/performance.md that compare libraries."""
    rows = _measured()
    names = {"a span written by hand": "a span written by hand", "spancast": "**spancast**", **OTHERS}
    lines = [f"| {shown} | {' | '.join(rows[name][:4])} |" for name, shown in names.items()]
    head = [
        "| µs per call, thread / process | short | 40 messages + tools | stream of 200 | 429 error |",
        "|---|--:|--:|--:|--:|",
    ]
    return "\n".join([*head, *lines])


def public_names() -> str:
    """Return the stored public names, a paragraph per section; ``docs/public_names.py`` reads them from the code."""
    stored: dict[str, list[str]] = json.loads((ROOT / "docs" / "public_names.json").read_text())
    return "\n\n".join(
        f"**{section[0].upper()}{section[1:]}** ({len(names)}): {', '.join(f'`{name}`' for name in names)}."
        for section, names in stored.items()
    )


def versions() -> str:
    """Return the table of what ``make versions`` has run, from the file in which it stores that."""
    rows: list[dict[str, Any]] = json.loads((ROOT / "docs" / "versions.json").read_text())
    lines = [
        f"| {row['python']} | {_SDKS[row['sdks']]} | {row.get('opentelemetry', '')} "
        f"| {' | '.join(_suite(row, suite) for suite in SUITES)} |"
        for row in rows
    ]
    head = [f"| Python | SDKs | OpenTelemetry | {' | '.join(SUITES)} |", "|---" * (len(SUITES) + 3) + "|"]
    return "\n".join([*head, *lines])


SUITES = ("recording", "contract", "export")
_SDKS = {"newest": "newest", "oldest": "oldest supported", "oldest-otel": "newest, with the oldest OpenTelemetry"}


def _suite(row: dict[str, Any], suite: str) -> str:
    result = row["suites"].get(suite)
    if result is None:
        return str(row.get("note", "not run"))
    names = ("passed", "failed", "error", "skipped")
    counts = ", ".join(f"{result[name]:,} {name}" for name in names if result.get(name))
    part = f' of the part `-k "{result["selection"]}"`' if result["selection"] else ""
    return f"{counts}{part}, {result['date']}"


TABLES = {
    "versions": versions,
    "public_names": public_names,
    "overhead": overhead,
    "comparison": comparison,
    "counters": counters,
    "destination_counters": destination_counters,
    "drop_reasons": drop_reasons,
    "metrics": metrics,
    "api": api,
    "commands": commands,
    "exit_statuses": exit_statuses,
    "clients": clients,
    "attributes": attributes,
    "destinations": destinations,
    "destination_names": destination_names,
    "destination_fields": destination_fields,
    "common_fields": common_fields,
    "filter_rules": filter_rules,
    "conventions": conventions,
    "attributes_by_convention": attributes_by_convention,
    "own_formats": own_formats,
    "what_you_see": what_you_see,
    "settings": settings,
}


def rewritten(text: str) -> str:
    """Return the text of a page with its marked tables regenerated."""
    return _MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


def pages() -> list[Path]:
    """Return the pages that can have tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(rewritten(page.read_text()))
    sys.exit()
