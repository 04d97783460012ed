"""Destinations from OpenTelemetry's variables ``OTEL_TRACES_EXPORTER`` and ``OTEL_EXPORTER_OTLP_*``.

OTLP is sent by a spancast destination, because the SDK's exporter loses spans without an error: it counts a redirect
as success and drops a batch after a few failures. The variables are read as by the SDK: an empty one is
not set, ``OTEL_EXPORTER_OTLP_TRACES_X`` replaces ``OTEL_EXPORTER_OTLP_X``, and a timeout is in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError

from spancast.config.field_errors import FieldError, config_error, field_errors
from spancast.destinations.field_types import HEADER_NAME
from spancast.diagnostics import logger

if TYPE_CHECKING:
    from spancast.destinations.config import DestinationConfig

ModelT = TypeVar("ModelT", bound=BaseModel)

EXPORTER_VARIABLE: Final = "OTEL_TRACES_EXPORTER"
SPANCAST_EXPORTER: Final = "spancast"
"""The exporter name by which an application that only configures OpenTelemetry uses spancast's destinations."""
NO_EXPORTER: Final = "none"
OTLP: Final = "otlp"

_PREFIXES: Final = ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_")
_PROTOCOLS: Final = {OTLP: None, "otlp_proto_grpc": "grpc", "otlp_proto_http": "http/protobuf"}
"""The SDK's OTLP exporters and the protocol that each name implies."""
_FIELDS: Final = {
    "protocol": "PROTOCOL",
    "compression": "COMPRESSION",
    "timeout": "TIMEOUT",
    "ca_file": "CERTIFICATE",
    "cert_file": "CLIENT_CERTIFICATE",
    "key_file": "CLIENT_KEY",
}
_LOWER_CASE: Final = frozenset({"protocol", "compression"})
_DEFAULT_ENDPOINT: Final = "http://localhost:4318"
_DEFAULT_GRPC_ENDPOINT: Final = "http://localhost:4317"
_HEADER_RULE: Final = "must be `name=value`, separated by commas, values percent-encoded"
_LONG_S: Final = 1000.0


def is_sdk_disabled() -> bool:
    """Return whether ``OTEL_SDK_DISABLED`` disables OpenTelemetry."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def exporter_names() -> list[str]:
    """Return the names in ``OTEL_TRACES_EXPORTER`` without duplicates."""
    names = (name.strip() for name in os.environ.get(EXPORTER_VARIABLE, "").split(","))
    return list(dict.fromkeys(filter(None, names)))


def has_endpoint() -> bool:
    """Return whether a variable sets the OTLP endpoint."""
    return _variable("ENDPOINT") is not None


def destinations_of(names: Sequence[str]) -> dict[str, DestinationConfig]:
    """Return a destination for each exporter of ``names``.

    Raises:
        ConfigError: Lists every invalid variable. A header's name or value is never shown.
    """
    configs: dict[str, DestinationConfig] = {}
    errors: list[FieldError] = []
    for name in names:
        config = _otlp(name, errors) if name in _PROTOCOLS else _exporter(name, errors)
        if config is not None:
            configs[name] = config
    if errors:
        raise config_error(errors)
    return configs


@dataclass(slots=True)
class _Values:
    """The fields of a configuration and the variable that each comes from."""

    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    origins: dict[str, str] = field(default_factory=dict[str, str])

    def read(self, name: str, suffix: str) -> str:
        """Set the field ``name`` from the variable that ends in ``suffix``; return its text, empty if unset."""
        found = _variable(suffix)
        self.origins[name] = found[0] if found else _PREFIXES[1] + suffix
        if found is None:
            return ""
        self.fields[name] = found[1].lower() if name in _LOWER_CASE else found[1]
        return found[1]


def _variable(suffix: str) -> tuple[str, str] | None:
    for prefix in _PREFIXES:
        text = os.environ.get(prefix + suffix, "").strip()
        if text:
            return prefix + suffix, text
    return None


def _otlp(exporter: str, errors: list[FieldError]) -> DestinationConfig | None:
    values = _Values()
    for name, suffix in _FIELDS.items():
        values.read(name, suffix)
    if (protocol := _PROTOCOLS[exporter]) is not None:
        values.fields["protocol"] = protocol
    is_grpc = values.fields.get("protocol") == "grpc"
    if not values.read("endpoint", "ENDPOINT"):
        values.fields["endpoint"] = _DEFAULT_GRPC_ENDPOINT if is_grpc else _DEFAULT_ENDPOINT
    found: list[FieldError] = []
    is_insecure = _is_insecure(found)
    if is_grpc and "://" not in values.fields["endpoint"]:
        # Only gRPC has addresses without a scheme.
        values.fields["endpoint"] = f"{'http' if is_insecure else 'https'}://{values.fields['endpoint']}"
    if headers := values.read("headers", "HEADERS"):
        values.fields["headers"] = _headers(headers, values.origins["headers"], found)
    from spancast.destinations.otlp_config import OtlpConfig, OtlpUrlConfig  # noqa: PLC0415 - loads when it is needed

    is_complete_url = values.origins["endpoint"] == f"{_PREFIXES[0]}ENDPOINT"
    model = OtlpUrlConfig if is_complete_url else OtlpConfig
    config = _validated(model, {"type": OTLP, **values.fields}, values.origins, found)
    errors.extend(found)
    if config is not None:
        _warn_of_long_timeout(config, values.origins["timeout"])
    return config


def _validated(
    model: type[ModelT], values: dict[str, Any], origins: dict[str, str], found: list[FieldError]
) -> ModelT | None:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # Only the first part of the path is shown: below it may be a header name that is really a credential.
        invalid = {
            origins.get(str(one.path[0]), str(one.path[0])): one.text for one in field_errors(error, model, values)
        }
        known = {str(one.path[0]) for one in found}
        found.extend(
            FieldError(path=(variable,), text=text) for variable, text in invalid.items() if variable not in known
        )
        return None


def _is_insecure(found: list[FieldError]) -> bool:
    variable = _variable("INSECURE")
    if variable is None:
        return False
    name, text = variable
    if text.lower() not in {"true", "false"}:
        found.append(FieldError(path=(name,), text="must be true or false"))
    return text.lower() == "true"


def _headers(text: str, variable: str, found: list[FieldError]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for number, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
        name, _, value = (part.strip() for part in entry.partition("="))
        try:
            name, value = unquote(name, errors="strict"), unquote(value, errors="strict").strip()
        except UnicodeDecodeError:
            value = ""
        if not value or not HEADER_NAME.fullmatch(name):
            # Only the number is shown: the whole entry may be a credential.
            found.append(FieldError(path=(variable,), text=f"entry {number} {_HEADER_RULE}"))
            continue
        headers[name.lower()] = value
    return headers


def _warn_of_long_timeout(config: Any, variable: str) -> None:  # noqa: ANN401 - a model of ``otlp_config``
    if config.timeout >= _LONG_S:
        logger.warning(
            "spancast: %s is in seconds, as in OpenTelemetry's Python SDK; one delivery may take %g hours",
            variable,
            config.timeout / 3600,
        )


def _exporter(name: str, errors: list[FieldError]) -> DestinationConfig | None:
    from spancast.destinations.span_exporter import ExporterConfig, installed_exporters  # noqa: PLC0415 - as in _otlp()

    installed = installed_exporters()
    if name not in installed:
        names = ", ".join(sorted(installed))
        errors.append(FieldError(path=(EXPORTER_VARIABLE,), text=f"unknown exporter {name!r}; installed are {names}"))
        return None
    return ExporterConfig.model_validate({"type": "exporter", "exporter": name})
