"""The settings models. Keywords override environment variables, which override the file; a model is frozen.

``runtime`` passes each part of the package the settings it needs. The loader is imported on first use, so that
``import spancast`` stays cheap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Required, TypeAlias, TypedDict, cast

from pydantic import AfterValidator, BaseModel, Field, SerializeAsAny, model_validator

from spancast.config.env_vars import CAPTURE_CONTENT_VARIABLE
from spancast.destinations.config_model import ConfigModel
from spancast.destinations.field_types import (
    Amount,
    ByteSize,
    Duration,
    DurationOrZero,
    Pattern,
    Text,
    UserPath,
)
from spancast.destinations.place import state_directory
from spancast.dialects.registry import DIALECTS, installed_dialects
from spancast.errors import ConfigError

if TYPE_CHECKING:
    from spancast.destinations.config import DestinationConfig
    from spancast.destinations.protocol import DeliversPayloads

    Destinations: TypeAlias = Mapping[str, DestinationConfig]
else:
    # Importing DestinationConfig doubles the import time; the registry creates no other class.
    Destinations = dict[str, SerializeAsAny[BaseModel]]

DISK_BYTES: Final = 512 << 20
MEMORY_BYTES: Final = 64 << 20
HttpClient: TypeAlias = Literal["aiohttp", "httpx", "httpx2", "requests", "urllib3"]
_URL_PATTERN: Final = re.compile(r"(?:https?://)?[^\s/?#@]+/[^\s?#]*")
SPOOL_RULE: Final = "must be `memory`, or a mapping with `path`, `max_bytes`, `max_age`, `keep_delivered`"


def _url_pattern(text: str) -> str:
    if _URL_PATTERN.fullmatch(text) is None:
        raise ValueError("must be a host and a path such as `llm.example.com/v1/generate`, without query or password")
    return text


def _dialect_name(name: str) -> str:
    if name not in DIALECTS and not installed_dialects(name):
        raise ValueError(f"must be one of {', '.join((*DIALECTS, *installed_dialects()))}")
    return name


UrlPattern: TypeAlias = Annotated[str, AfterValidator(_url_pattern)]
DialectName: TypeAlias = Annotated[str, AfterValidator(_dialect_name)]


class SpoolSettings(ConfigModel, frozen=True):
    """The queue of spans that are not yet delivered to every destination."""

    memory: bool = Field(default=False, description="Keep spans in memory only: they are lost when the process ends.")
    path: UserPath | None = Field(default_factory=state_directory, description="Directory of the spool's file.")
    max_bytes: ByteSize | None = Field(
        default=None, description="Size at which the oldest spans are dropped; default: 512MiB, or 64MiB in memory."
    )
    max_age: Duration = Field(
        default=604_800.0, description="Age at which spans are dropped, delivered or not; 7 days."
    )

    keep_delivered: DurationOrZero = Field(
        default=604_800.0,
        description="How long delivered prompts and answers stay, for replays; `0`: not at all. 7 days.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if given == "memory":
            given = {"memory": True}
        if not isinstance(given, (Mapping, SpoolSettings)):
            raise ValueError(SPOOL_RULE)  # noqa: TRY004 - pydantic reads ValueError
        return cast("Any", given)

    @property
    def limit_bytes(self) -> int:
        """Return ``max_bytes``, or its default if not given."""
        return self.max_bytes or (MEMORY_BYTES if self.memory else DISK_BYTES)


class ModelPrices(ConfigModel, frozen=True):
    """Prices of a model in USD per million tokens."""

    input: Amount = Field(description="Price of input tokens.")
    output: Amount = Field(0.0, description="Price of output tokens.")
    cache_read: Amount | None = Field(None, description="Price of cached input tokens; default: that of input.")
    cache_write: Amount | None = Field(None, description="Price of tokens written to the cache; default: input.")


class Settings(ConfigModel, frozen=True):
    """All arguments of ``spancast.configure()`` except the OpenTelemetry providers."""

    service_name: Text | None = Field(None, description="`service.name` of the provider that spancast creates.")
    capture_content: bool = Field(
        default=True,
        description="Record messages, tools, error texts and unknown fields; if false, only what is no content. "
        f"Also set by {CAPTURE_CONTENT_VARIABLE}.",
    )
    strict: bool = Field(
        default=False, description="Raise for an invalid trace key or parameter before the request is sent."
    )
    forward_trace_keys: Literal["auto", "always", "never"] = Field(
        "auto", description="Send trace keys in the request body: `auto` to OpenRouter only."
    )
    request_stream_usage: bool = Field(
        default=False,
        description="Request usage for streamed chat completions and hide the extra chunk from the caller.",
    )
    cancellation_is_error: bool = Field(default=False, description="Give cancelled calls the span status ERROR.")
    chunk_metrics: bool = Field(
        default=False,
        description="Also record the time of every chunk of a stream: on the span, for the page, and with a meter"
        " provider as the metric `gen_ai.client.inference.time_per_output_chunk`, which costs more than all other"
        " metrics of a call.",
    )
    estimate_cost: bool = Field(
        default=True,
        description="Estimate the cost of a call if its provider names none, with `prices`, else with the prices of"
        " the package genai-prices; without network.",
    )
    prices: dict[Pattern, ModelPrices] = Field(
        default_factory=dict,
        description="Your prices by model, in USD per million tokens. A name may be a regular expression of the whole"
        " name of the model; the first match is used.",
    )
    group_idle_timeout: Duration = Field(
        5.0, description="How long a group span stays open without calls, if no block or active span keeps it open."
    )
    http_clients: list[HttpClient] = Field(
        default_factory=list[HttpClient],
        description="HTTP libraries to instrument, for completion calls that are made without an SDK: `httpx`,"
        " `requests`, …",
    )
    completion_urls: dict[UrlPattern, DialectName] = Field(
        default_factory=dict,
        description="Your own completion URLs (`llm.example.com/*/generate`; `*` is any text) and the dialect of each,"
        " for the libraries in `http_clients`.",
    )
    default_trace: dict[str, Any] = Field(
        default_factory=dict, description="Trace keys of every call; a key that the call sets itself takes precedence."
    )
    spool: SpoolSettings = Field(
        default_factory=SpoolSettings,
        description="The queue of spans not yet delivered to every destination, or `memory`.",
    )
    shutdown_timeout: Duration = Field(5.0, description="Longest wait for deliveries at process exit.")
    destinations: Destinations = Field(
        default_factory=dict, description="Destinations of traces, by a name of your choice."
    )


class SettingsKeywords(TypedDict, total=False):
    """The fields of ``Settings`` as keywords of ``configure()``, for type checkers and editors; None is not given."""

    service_name: str | None
    capture_content: bool | None
    strict: bool | None
    forward_trace_keys: Literal["auto", "always", "never"] | None
    request_stream_usage: bool | None
    cancellation_is_error: bool | None
    chunk_metrics: bool | None
    estimate_cost: bool | None
    prices: Mapping[str, PriceKeywords | ModelPrices] | None
    group_idle_timeout: float | str | None
    http_clients: Sequence[HttpClient] | None
    completion_urls: Mapping[str, str] | None
    default_trace: Mapping[str, Any] | None
    spool: Literal["memory"] | SpoolKeywords | SpoolSettings | None
    shutdown_timeout: float | str | None
    destinations: Mapping[str, Mapping[str, Any] | DestinationConfig | DeliversPayloads] | None


class PriceKeywords(TypedDict, total=False):
    """The fields of ``ModelPrices``."""

    input: Required[float | str]
    output: float | str
    cache_read: float | str | None
    cache_write: float | str | None


class SpoolKeywords(TypedDict, total=False):
    """The fields of ``SpoolSettings``."""

    memory: bool
    path: str | Path | None
    max_bytes: int | str | None
    max_age: float | str
    keep_delivered: float | str


def load(path: str | Path | None = None, given: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings: keywords ``given`` override the environment, which overrides the file at ``path``.

    Without ``path`` no file is read; ``find`` returns the default one. A field comes from the source with the highest
    precedence: mappings are not merged. None means not given.

    Raises:
        ConfigError: Lists every error with its path, the type given and the allowed values.
    """
    try:
        file = Path(path) if path else None
    except TypeError:
        raise ConfigError(f"path: must be the path of a file (given: {type(path).__name__})") from None
    from spancast.config.loader import load_settings  # noqa: PLC0415 - loads when it is needed

    # An empty variable counts as unset, as everywhere in OpenTelemetry.
    return load_settings(Settings, file, given or {})


def in_effect(settings: Settings, *, has_other_exporters: bool = False) -> Settings | None:
    """Return ``settings`` plus the destinations that OpenTelemetry's variables name; None if nothing is exported.

    If neither names a destination, spans are sent to the OTLP endpoint of a variable. Without one the result has no
    destination and spans are written to the local store. ``has_other_exporters``: the application configured
    OpenTelemetry itself, so ``OTEL_TRACES_EXPORTER`` concerns spancast only if it names spancast.

    Raises:
        ConfigError: Lists every invalid variable.
    """
    from spancast.config import otel_env as variables  # noqa: PLC0415 - as in load()

    if variables.is_sdk_disabled():
        return None
    exporters = variables.exporter_names()
    is_named = variables.SPANCAST_EXPORTER in exporters
    named = [name for name in exporters if name not in (variables.SPANCAST_EXPORTER, variables.NO_EXPORTER)]
    names = [] if has_other_exporters else named
    if not names and not settings.destinations:
        if not is_named and (exporters or has_other_exporters):
            return None
        # Spans that the application's own exporter sends are not sent twice.
        names = [variables.OTLP] if variables.has_endpoint() and variables.OTLP not in exporters else []
    added = {
        name if name not in settings.destinations else f"{name}-env": config
        for name, config in variables.destinations_of(names).items()
    }
    changed: dict[str, Any] = {"destinations": {**settings.destinations, **added}} if added else {}
    if added and all(config.type == "exporter" for config in changed["destinations"].values()):
        # The address of an installed exporter is unknown, so no other process may deliver its spans.
        changed["spool"] = settings.spool.model_copy(update={"memory": True})
    return settings.model_copy(update=changed)


def summary(settings: Settings, effective: Settings | None, found: Path | None = None) -> str:
    """Return one line about what the program has not named: the file ``found`` and where traces go; or nothing.

    ``effective`` are the ``settings`` as ``in_effect`` returned them.
    """
    if effective is None or (settings.destinations and found is None):
        return ""
    names = ", ".join(name for name, config in effective.destinations.items() if config.enabled)
    if effective.destinations:
        where = f"traces go to {names or 'no destination'}{'' if settings.destinations else ' (OTEL_* variables)'}"
    elif state_directory() is None:
        # The local store logs a warning.
        return ""
    else:
        where = "traces are stored on this machine; see them with: spancast traces"
    return f"spancast: {found.absolute()} is used; {where}" if found else f"spancast: {where}"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors."""
    from spancast.config.json_schema import settings_schema  # noqa: PLC0415 - as in load()

    return settings_schema(Settings)
