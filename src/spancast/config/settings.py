"""What a user can set: keywords over environment over file, checked all at once, then frozen.

Must never: be read again deep inside; ``runtime`` hands each room what it needs. What reads
files and explains mistakes loads when it is needed: ``import spancast`` stays cheap.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from pydantic import BaseModel, Field, SerializeAsAny, model_validator

from spancast.config.env_vars import CAPTURE_CONTENT_VARIABLE, FILE_VARIABLE
from spancast.destinations.config_model import ConfigModel
from spancast.destinations.field_types import ByteSize, Duration, Text, UserPath, state_directory
from spancast.errors import ConfigError

if TYPE_CHECKING:
    from spancast.destinations.config import DestinationConfig

    Destinations: TypeAlias = Mapping[str, DestinationConfig]
else:
    # The real class takes as long to import as all of this file; the table makes nothing else.
    Destinations = dict[str, SerializeAsAny[BaseModel]]

FILE_NAME: Final = "spancast.yaml"
DISK_BYTES: Final = 512 << 20
MEMORY_BYTES: Final = 64 << 20
SPOOL_FORM: Final = "must be `memory`, or a mapping with `path`, `max_bytes`, `max_age`"


class SpoolSettings(ConfigModel, frozen=True):
    """Where spans wait until every destination has them."""

    memory: bool = Field(default=False, description="Keep them in memory only: lost when the process ends.")
    path: UserPath | None = Field(default_factory=state_directory, description="Directory of the spool's file.")
    max_bytes: ByteSize | None = Field(
        default=None, description="The oldest go beyond this. Absent: 512MiB, or 64MiB in memory."
    )
    max_age: Duration = Field(default=604_800.0, description="Older ones go, delivered or not; 7 days.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if given == "memory":
            given = {"memory": True}
        if not isinstance(given, (Mapping, SpoolSettings)):
            raise ValueError(SPOOL_FORM)  # noqa: TRY004 - pydantic reads ValueError
        return cast("Any", given)

    @property
    def limit_bytes(self) -> int:
        """Return ``max_bytes``, or what holds where it is not given."""
        return self.max_bytes or (MEMORY_BYTES if self.memory else DISK_BYTES)


class Settings(ConfigModel, frozen=True):
    """Everything ``spancast.configure()`` takes beside OpenTelemetry providers."""

    service_name: Text | None = Field(None, description="`service.name` of the provider spancast makes.")
    capture_content: bool = Field(
        default=True,
        description="Record messages, tools, error texts, unknown fields; if not, only what is known to be no content. "
        f"{CAPTURE_CONTENT_VARIABLE} sets it too.",
    )
    strict: bool = Field(default=False, description="Raise for a wrong trace key or parameter, before the request.")
    forward_trace_keys: Literal["auto", "always", "never"] = Field(
        "auto", description="Send trace keys in the request body: `auto` to OpenRouter only."
    )
    request_stream_usage: bool = Field(
        default=False, description="Ask for usage on streamed chat completions, and keep the extra chunk from the user."
    )
    cancellation_is_error: bool = Field(default=False, description="Give cancelled calls the span status ERROR.")
    group_idle_timeout: Duration = Field(30.0, description="How long a group span without calls stays open.")
    default_trace: dict[str, Any] = Field(
        default_factory=dict, description="Trace keys of every call; a key that the call sets itself takes precedence."
    )
    spool: SpoolSettings = Field(
        default_factory=SpoolSettings, description="Where spans wait until every destination has them, or `memory`."
    )
    shutdown_timeout: Duration = Field(5.0, description="How long the process may wait at its end for deliveries.")
    destinations: Destinations = Field(default_factory=dict, description="Where traces go, by names of your own.")


def find() -> Path | None:
    """Return the file that ``SPANCAST_CONFIG`` names, else ``spancast.yaml`` of this directory if there is one.

    For commands: an application reads only the file it names.
    """
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    return Path(FILE_NAME) if Path(FILE_NAME).is_file() else None


def load(path: str | Path | None = None, given: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of keywords ``given`` over environment over the file at ``path``.

    Without a ``path``, ``SPANCAST_CONFIG`` names the file. A field that is given in two places
    is taken whole from the stronger one. What is None is not given.

    Raises:
        ConfigError: Lists every mistake with its path, the value's type and what is allowed.
    """
    named = path or os.environ.get(FILE_VARIABLE)
    try:
        file = Path(named) if named else None
    except TypeError:
        raise ConfigError(f"path: must be the path of a file (given: {type(named).__name__})") from None
    sources = importlib.import_module("spancast.config.loader")
    # A variable that is empty is not set, as everywhere in OpenTelemetry.
    return cast("Settings", sources.settings_of(Settings, file, given or {}))


def in_effect(settings: Settings, *, has_other_exporters: bool = False) -> Settings | None:
    """Return ``settings`` with the destinations that OpenTelemetry's variables name; None if spans go nowhere.

    If neither they nor ``settings`` name a destination, spans go to the OTLP endpoint that a variable names, else to
    the local store: the result has no destination. ``has_other_exporters``: the spans are those of an application
    that has set OpenTelemetry up itself, so ``OTEL_TRACES_EXPORTER`` asks us for something only if it names us.

    Raises:
        ConfigError: Lists every variable that is wrong.
    """
    variables = importlib.import_module("spancast.config.otel_env")
    if variables.is_sdk_disabled():
        return None
    exporters: list[str] = variables.exporter_names()
    is_named = variables.OURSELVES in exporters
    named = [name for name in exporters if name not in (variables.OURSELVES, variables.NO_EXPORTER)]
    names = [] if has_other_exporters else named
    if not names and not settings.destinations:
        if not is_named and (exporters or has_other_exporters):
            return None
        # What the application's own exporter sends is not sent a second time.
        names = [variables.OTLP] if variables.has_endpoint() and variables.OTLP not in exporters else []
    added: dict[str, DestinationConfig] = {
        name if name not in settings.destinations else f"{name}-env": config
        for name, config in variables.destinations_of(names).items()
    }
    changed: dict[str, Any] = {"destinations": {**settings.destinations, **added}} if added else {}
    if added and all(config.type == "exporter" for config in changed["destinations"].values()):
        # Where an installed exporter sends is not known here, so its spans are left to no other process.
        changed["spool"] = settings.spool.model_copy(update={"memory": True})
    return settings.model_copy(update=changed)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors."""
    return importlib.import_module("spancast.config.json_schema").schema_of(Settings)
