"""The registry of destination types, by their name in ``spancast.yaml``; their modules are imported on first use.

The documentation, ``spancast destinations`` and the JSON Schema are generated from it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from spancast.destinations.config import DestinationConfig, NetworkConfig
from spancast.destinations.object_destination import ObjectConfig, ObjectDestination
from spancast.destinations.otlp_config import is_native, vendor_config
from spancast.destinations.otlp_vendors import OTLP_VENDORS, Proof, target
from spancast.destinations.place import state_directory
from spancast.destinations.protocol import Destination
from spancast.errors import ConfigError
from spancast.model.entry_points import installed, load

_HERE: Final = "spancast.destinations"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationType:
    """A destination type.

    ``config`` and ``factory`` are import names (``module:name``) of its model and of the function that
    creates a ``Destination`` from ``(config, encoder)``; they are imported on first use.
    ``convention`` is its attribute convention, ``extra`` the pip extra with its dependencies,
    ``source`` the page with its contract, ``proof`` how it was verified, ``repeats`` what a span becomes there that is
    sent twice (empty if unknown), ``batch_limit`` the product's limits of a request. ``extra_help`` is the import
    name of a function whose result `spancast destinations TYPE` shows after the fields.
    """

    title: str
    about: str
    config: str
    factory: str
    convention: str = "gen_ai"
    extra: str | None = None
    source: str = ""
    proof: Proof = "vendor"
    repeats: str = ""
    batch_limit: str = ""
    extra_help: str | None = None


_NATIVE: Final[Mapping[str, DestinationType]] = {
    "otlp": DestinationType(
        title="OTLP",
        about="Any server that accepts OTLP, over HTTP or gRPC.",
        config=f"{_HERE}.otlp_config:OtlpConfig",
        factory=f"{_HERE}.otlp_config:create",
        source="opentelemetry.io/docs/specs/otlp",
        proof="server",
    ),
    "otel-collector": DestinationType(
        title="OpenTelemetry Collector",
        about="An OpenTelemetry Collector, which exports spans as it is configured.",
        config=f"{_HERE}.otlp_config:CollectorConfig",
        factory=f"{_HERE}.otlp_config:create",
        source="opentelemetry.io/docs/collector",
        proof="server",
    ),
    "jaeger": DestinationType(
        title="Jaeger",
        about="Jaeger, version 1.35 and later.",
        config=f"{_HERE}.otlp_config:JaegerConfig",
        factory=f"{_HERE}.otlp_config:create",
        source="jaegertracing.io/docs/latest/architecture/apis",
        proof="server",
    ),
    "webhook": DestinationType(
        title="Webhook",
        about="Your own endpoint, which receives OTLP JSON.",
        config=f"{_HERE}.webhook:WebhookConfig",
        factory=f"{_HERE}.webhook:create",
        source="openrouter.ai/docs/guides/features/broadcast/webhook",
    ),
    "file": DestinationType(
        title="File",
        about="A file of OTLP JSON lines, as the Collector's file exporter writes it.",
        config=f"{_HERE}.file:FileConfig",
        factory=f"{_HERE}.file:FileDestination",
        source="opentelemetry.io/docs/specs/otel/protocol/file-exporter",
    ),
    "console": DestinationType(
        title="Console",
        about="A tree in the terminal: names, durations, tokens, cost.",
        config=f"{_HERE}.console:ConsoleConfig",
        factory=f"{_HERE}.console:ConsoleDestination",
    ),
    "store": DestinationType(
        title="Local store",
        about="A SQLite file that `spancast traces`, `spancast show` and any SQL client read.",
        config=f"{_HERE}.local_store:StoreConfig",
        factory=f"{_HERE}.local_store:StoreDestination",
    ),
    "clickhouse": DestinationType(
        title="ClickHouse",
        about="A table of one row per span, as OpenRouter fills it.",
        config=f"{_HERE}.clickhouse:ClickHouseConfig",
        factory=f"{_HERE}.clickhouse:create",
        extra_help=f"{_HERE}.clickhouse:ddl",
        extra="clickhouse",
        source="openrouter.ai/docs/guides/features/broadcast/clickhouse",
        proof="server",
        repeats="one row after a merge of the table",
    ),
    "postgres": DestinationType(
        title="PostgreSQL",
        about="A table of one row per span, as OpenRouter fills it, in PostgreSQL, Supabase, Neon and other services.",
        config=f"{_HERE}.postgres:PostgresConfig",
        factory=f"{_HERE}.postgres:create",
        extra_help=f"{_HERE}.postgres:ddl",
        extra="postgres",
        source="postgresql.org/docs/current/functions-json.html",
        proof="server",
        repeats="the row that is there stays",
    ),
    "bigquery": DestinationType(
        title="BigQuery",
        about="A table of one row per span, as OpenRouter fills it, by streaming inserts.",
        config=f"{_HERE}.bigquery:BigQueryConfig",
        factory=f"{_HERE}.bigquery:create",
        extra_help=f"{_HERE}.bigquery:ddl",
        extra="bigquery",
        source="cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll",
        proof="emulator",
        repeats="one row within about a minute, else two",
        batch_limit="500 rows, 9.5 MB",
    ),
    "snowflake": DestinationType(
        title="Snowflake",
        about="A table of one row per span, as OpenRouter fills it, by Snowflake's SQL API.",
        config=f"{_HERE}.snowflake:SnowflakeConfig",
        factory=f"{_HERE}.snowflake:create",
        extra_help=f"{_HERE}.snowflake:ddl",
        source="docs.snowflake.com/en/developer-guide/sql-api",
        proof="emulator",
        repeats="nothing: a request id is executed once",
    ),
    "s3": DestinationType(
        title="S3",
        about="An object per trace in Amazon S3 or a compatible store (MinIO, R2, …).",
        config=f"{_HERE}.s3:S3Config",
        factory=f"{_HERE}.s3:create",
        extra="s3",
        source="openrouter.ai/docs/guides/features/broadcast/s3",
        proof="emulator",
        repeats="the same object again",
    ),
    "parquet": DestinationType(
        title="Parquet",
        about="Parquet files of one row per span, by day, on this machine or in S3, Google Cloud Storage or Azure, for"
        " DuckDB, polars, pandas and others.",
        config=f"{_HERE}.parquet:ParquetConfig",
        factory=f"{_HERE}.parquet:create",
        extra="parquet",
        source="parquet.apache.org/docs/file-format",
        proof="readers",
        repeats="the same file again, if the batch is the same",
    ),
    "kafka": DestinationType(
        title="Kafka",
        about="A topic in Kafka or a compatible broker: a message per span, as JSON or OTLP.",
        config=f"{_HERE}.kafka:KafkaConfig",
        factory=f"{_HERE}.kafka:create",
        extra="kafka",
        source="docs.confluent.io/platform/current/clients/confluent-kafka-python",
        proof="server",
        repeats="two messages with the same ids",
        batch_limit="1 MB a message, or `message.max.bytes`",
    ),
    "redis": DestinationType(
        title="Redis",
        about="A stream in Redis, Valkey or a compatible server: an entry per span.",
        config=f"{_HERE}.redis_streams:RedisConfig",
        factory=f"{_HERE}.redis_streams:create",
        extra="redis",
        source="redis.io/docs/latest/develop/data-types/streams",
        proof="server",
        repeats="two entries with the same ids",
    ),
    "firehose": DestinationType(
        title="Amazon Data Firehose",
        about="A stream of Amazon Data Firehose: a record of one JSON row per span.",
        config=f"{_HERE}.firehose:FirehoseConfig",
        factory=f"{_HERE}.firehose:create",
        extra="firehose",
        source="docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html",
        proof="emulator",
        repeats="two records with the same ids",
        batch_limit="500 records, 4 MiB, 1,024,000 bytes a record",
    ),
    "exporter": DestinationType(
        title="SpanExporter",
        about="Any OpenTelemetry `SpanExporter` of an installed package, by its `opentelemetry_traces_exporter` name.",
        config=f"{_HERE}.span_exporter:ExporterConfig",
        factory=f"{_HERE}.span_exporter:create",
        source="opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables",
    ),
}

DESTINATIONS: Final[Mapping[str, DestinationType]] = {
    **_NATIVE,
    **{
        name: DestinationType(
            title=vendor.title,
            about=vendor.about,
            config=f"{_HERE}.otlp_config:VendorConfig",
            factory=f"{_HERE}.otlp_config:create_vendor",
            convention=vendor.convention,
            extra=vendor.auth,
            source=vendor.source,
            proof=vendor.proof,
            repeats=vendor.repeats,
        )
        for name, vendor in OTLP_VENDORS.items()
    },
}
"""All types, by the name in ``type``."""

ENTRY_POINTS: Final = "spancast.destinations"
"""The entry point group for destination types of other distributions: ``name = "module:DESTINATION"``."""

ALIASES: Final[Mapping[str, str]] = {
    "postgresql": "postgres",
    "supabase": "postgres",
    "collector": "otel-collector",
    "arize-ax": "arize",
    "elasticsearch": "elastic",
    "keywords-ai": "respan",
    "keywordsai": "respan",
    "redis-streams": "redis",
    "aws-firehose": "firehose",
}


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """A field of one type, for tables in docs and ``spancast destinations``."""

    name: str
    about: str
    required: bool
    default: str
    choices: tuple[str, ...]
    is_secret: bool
    is_common: bool


_installed: Final[dict[str, DestinationType]] = {}
"""The types of installed distributions that were looked up."""


def canonical(kind: str) -> str | None:
    """Return the name of the type that a user wrote as ``type``, or None if it is neither known nor installed."""
    name = kind.strip().lower().replace("_", "-")
    name = ALIASES.get(name, name)
    if name not in DESTINATIONS and name not in _installed:
        _installed.update(installed_destinations(name))
    return name if name in DESTINATIONS or name in _installed else None


def installed_destinations(name: str | None = None) -> dict[str, DestinationType]:
    """Return the destination types of installed distributions, only ``name`` if given."""
    return installed(ENTRY_POINTS, DestinationType.__name__, lambda value: isinstance(value, DestinationType), name)


def row_of(kind: str) -> DestinationType:
    """Return the description of the type ``kind``, a name that ``canonical`` returned."""
    return DESTINATIONS[kind] if kind in DESTINATIONS else _installed[kind]


@functools.cache
def config_model(kind: str) -> type[DestinationConfig]:
    """Return the model of the type ``kind``, a name that ``canonical`` returned."""
    if kind in OTLP_VENDORS:
        return vendor_config(kind)
    return cast("type[DestinationConfig]", load(row_of(kind).config))


def create(config: DestinationConfig, name: str) -> Destination:
    """Return the destination of ``config``; ``name`` is its key in the file.

    Raises:
        ConfigError: A package is not installed; the message names the extra.
    """
    # Encoders are imported with the first destination, not with the models: `spancast schema` encodes nothing.
    from spancast.destinations.encoder_config import encoder_for  # noqa: PLC0415 - see above

    if isinstance(config, ObjectConfig):
        return ObjectDestination(config.destination, encoder_for(config, "gen_ai", {}))
    row, vendor = row_of(config.type), OTLP_VENDORS.get(config.type)
    resource: Mapping[str, str] = target(vendor, config).resource if vendor else {}
    # A destination with its own format reads the canonical span.
    convention = "gen_ai" if is_native(config) else row.convention
    try:
        return cast("Destination", load(row.factory)(config, encoder_for(config, convention, resource)))
    except ConfigError as error:
        raise ConfigError(f"destinations.{name}: {error}") from None


def fields(kind: str) -> list[FieldDoc]:
    """Return the fields of the type ``kind``, its own before the common ones."""
    model = config_model(kind)
    common = {*NetworkConfig.model_fields, *DestinationConfig.model_fields}
    docs = [
        _field_doc(name, info, is_common=name in common) for name, info in model.model_fields.items() if name != "type"
    ]
    return sorted(docs, key=lambda doc: (doc.is_common, not doc.required))


def _field_doc(name: str, info: FieldInfo, *, is_common: bool) -> FieldDoc:
    default = info.get_default(call_default_factory=not info.is_required())
    return FieldDoc(
        name=name,
        about=info.description or "",
        required=info.is_required(),
        default="" if info.is_required() or default in (None, (), {}) else _default_text(default),
        choices=_choices(info.annotation),
        is_secret="SecretStr" in str(info.annotation),
        is_common=is_common,
    )


def _default_text(default: object) -> str:
    directory = state_directory()
    if isinstance(default, Path) and directory is not None and default.is_relative_to(directory):
        # The same text on every machine.
        return f"~/.local/state/spancast/{default.relative_to(directory)}"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _choices(annotation: Any) -> tuple[str, ...]:  # noqa: ANN401 - any type
    if get_origin(annotation) is Literal:
        return tuple(str(choice) for choice in get_args(annotation))
    return tuple(choice for part in get_args(annotation) for choice in _choices(part))
