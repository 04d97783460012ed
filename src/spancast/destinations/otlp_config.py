"""The models of everything that is reached by OTLP, and how each becomes a destination."""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field, create_model, model_validator

from spancast.destinations.config import NetworkConfig, failure
from spancast.destinations.field_types import Address
from spancast.destinations.otlp_vendors import OTLP_VENDORS
from spancast.destinations.place import Place
from spancast.destinations.protocol import Destination, Encoder
from spancast.destinations.vendor_row import signal_url, target

_LOOPBACK: Final = re.compile(r"127(\.\d{1,3}){3}")
_GRPC_PORT: Final = 4317
Protocol = Literal["http/protobuf", "http/json", "grpc"]
Compression = Literal["gzip", "none"]


class ServerConfig(NetworkConfig, frozen=True):
    """A server that takes OTLP at the place it is told."""

    endpoint: Address = Field(description="`http://host:4318`, with or without the path; `http://host:4317` is gRPC.")
    protocol: Protocol | None = Field(None, description="Absent: gRPC on port 4317, else http/protobuf.")
    compression: Compression | None = Field(
        None, description="How bodies are compressed. Absent: gzip, or none where the server is on this machine."
    )
    spans: Literal["genai", "all"] = Field("all", description="LLM spans and their groups only, or whole traces.")

    @property
    def spoken(self) -> Protocol:
        """Return the protocol asked for, else that of the port."""
        return self.protocol or ("grpc" if urlsplit(self.endpoint).port == _GRPC_PORT else "http/protobuf")

    @property
    def url(self) -> str:
        """Return where spans are posted by HTTP."""
        return signal_url(self.endpoint)

    @property
    def compressed(self) -> Compression:
        """Return the compression asked for, else what is worth its time: more than all else that a span costs."""
        return self.compression or ("none" if _is_here(urlsplit(self.endpoint).hostname or "") else "gzip")

    def place(self) -> Place:
        """Return the server; gRPC has no path."""
        if self.spoken == "grpc":
            return self.network_place(urlsplit(self.endpoint)._replace(path="").geturl())
        return self.network_place(signal_url(self.endpoint))


def _is_here(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or host == "::1" or _LOOPBACK.fullmatch(host) is not None


class OtlpConfig(ServerConfig, frozen=True):
    """Any server that takes OTLP."""

    type: Literal["otlp"]


class OtlpUrlConfig(OtlpConfig, frozen=True):
    """The same with the whole URL as its endpoint, as ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` has it."""

    @property
    def url(self) -> str:
        """Return the endpoint as it is."""
        return self.endpoint


class CollectorConfig(ServerConfig, frozen=True):
    """An OpenTelemetry Collector."""

    type: Literal["otel-collector"]


class JaegerConfig(ServerConfig, frozen=True):
    """A Jaeger."""

    type: Literal["jaeger"]
    endpoint: Address = Field("http://localhost:4318", description="OTLP endpoint of Jaeger, HTTP or gRPC.")


class VendorConfig(NetworkConfig, frozen=True):
    """A product that takes OTLP over HTTP; its own fields are in its row of ``otlp_vendors``."""

    compression: Compression = Field("gzip", description="How bodies are compressed.")

    @model_validator(mode="after")
    def _headers_can_be_sent(self) -> VendorConfig:
        row = OTLP_VENDORS[self.type]
        for header, value in target(row, self).headers.items():
            if not value.isascii():
                named = [name for name in row.fields if f"{{{name}}}" in row.headers.get(header, "")]
                raise failure(tuple(named[:1]), None, f"goes into the header {header}, so it must be ASCII")
        return self

    def place(self) -> Place:
        """Return the address and the account that the row makes of the fields."""
        reached = target(OTLP_VENDORS[self.type], self)
        return self.network_place(reached.url, reached.account, reached.credentials)


@functools.cache
def vendor_config(kind: str) -> type[VendorConfig]:
    """Return the model of the vendor ``kind``: what every destination can be told, and the fields of its row."""
    row = OTLP_VENDORS[kind]
    fields: dict[str, Any] = {"type": (Literal[kind], Field(description="Which kind of destination.")), **row.fields}
    return create_model(f"{kind.title()}Config", __base__=VendorConfig, __doc__=row.about, **fields)


_TITLES: Final = {"otlp": "OTLP", "otel-collector": "OpenTelemetry Collector", "jaeger": "Jaeger"}


def create(config: ServerConfig, encoder: Encoder) -> Destination:
    """Return the destination of ``config``, by gRPC or HTTP.

    Raises:
        ConfigError: A certificate or a proxy cannot be used.
    """
    product = _TITLES[config.type]
    if config.spoken == "grpc":
        return cast(
            "Destination",
            _sending("otlp").OtlpGrpcDestination(
                config.endpoint, config, encoder, product=product, compression=config.compressed
            ),
        )
    sender = _sending("http").sender_of(config, config.url, product=product)
    encoding = "json" if config.spoken == "http/json" else "protobuf"
    return cast(
        "Destination",
        _sending("otlp").OtlpHttpDestination(sender, encoder, encoding=encoding, gzip=config.compressed == "gzip"),
    )


def create_vendor(config: VendorConfig, encoder: Encoder) -> Destination:
    """Return the destination of ``config``, by its row of ``otlp_vendors``.

    Raises:
        ConfigError: A certificate or a proxy cannot be used.
    """
    row = OTLP_VENDORS[config.type]
    reached = target(row, config)
    sender = _sending("http").sender_of(config, reached.url, product=row.title, headers=reached.headers)
    return cast(
        "Destination",
        _sending("otlp").OtlpHttpDestination(
            sender,
            encoder,
            encoding=row.accepted[0],
            gzip=config.compression == "gzip",
            resource=reached.resource,
        ),
    )


def _sending(module: str) -> Any:  # noqa: ANN401 - a module
    # An HTTP client is loaded by whoever sends, not by whoever reads a configuration.
    return importlib.import_module(f"spancast.destinations.{module}")
