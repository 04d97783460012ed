"""Generate the tables of the documentation from the code: ``make docs``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic.fields import FieldInfo

from spancast import cli
from spancast.cli.command import EXIT_STATUS
from spancast.config.settings import Settings, SpoolSettings
from spancast.destinations import registry
from spancast.destinations.config import FilterField, FilterOperator
from spancast.destinations.datadog import datadog_span
from spancast.destinations.otlp_vendors import OTLP_VENDORS
from spancast.destinations.posthog import event
from spancast.destinations.registry import DESTINATIONS, FieldDoc
from spancast.destinations.s3 import trace_object
from spancast.destinations.sql_rows import ROW_NAMES, row_texts
from spancast.encoding.conventions.registry import CONVENTIONS, convention_of
from spancast.encoding.span_data import ScopeData, SpanData
from spancast.instrumentation.registry import CLIENTS, find_patches
from spancast.model import semconv

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
    """Return a paragraph with all destination types, each linked to its fields."""
    return ", ".join(f"[{row.title}](docs/destinations.md#{kind})" for kind, row in DESTINATIONS.items()) + "."


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
_IN_TABLE = "the columns of `tables` above"
PRODUCTS: Mapping[str, Product] = {
    "langfuse": Product(
        "read in its server's source of 2026-08-22",
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
    """Return the table of the fields of ``spancast.yaml``."""
    fields = {**Settings.model_fields, **{f"spool.{name}": info for name, info in SpoolSettings.model_fields.items()}}
    lines = [f"| `{name}` | {_setting(info)} | {_cell(info.description or '')} |" for name, info in fields.items()]
    return "\n".join(["| field | default | meaning |", "|---|---|---|", *lines])


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
