"""Configuration models and factories of the destinations that use OTLP."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field, create_model, model_validator

from spancast.destinations.cloud_auth import Auth
from spancast.destinations.config import DestinationConfig, NetworkConfig, field_error
from spancast.destinations.field_types import Address
from spancast.destinations.otlp_vendors import OTLP_VENDORS, signal_url, target
from spancast.destinations.place import Place
from spancast.destinations.protocol import Destination, Encoder
from spancast.model.entry_points import load

_LOOPBACK: Final = re.compile(r"127(\.\d{1,3}){3}")
_GRPC_PORT: Final = 4317
Protocol = Literal["http/protobuf", "http/json", "grpc"]
Compression = Literal["gzip", "none"]


class ServerConfig(NetworkConfig, frozen=True):
    """A server that accepts OTLP at a configured endpoint."""

    endpoint: Address = Field(description="`http://host:4318`, with or without the path; port 4317 is gRPC.")
    protocol: Protocol | None = Field(
        None, description="OTLP protocol; default: gRPC on port 4317, else http/protobuf."
    )
    compression: Compression | None = Field(
        None, description="Compression of bodies; default: gzip, or none for a server on this machine."
    )
    spans: Literal["genai", "all"] = Field("all", description="GenAI spans and group spans only, or complete traces.")

    @property
    def effective_protocol(self) -> Protocol:
        """Return the configured protocol, else that of the port."""
        return self.protocol or ("grpc" if urlsplit(self.endpoint).port == _GRPC_PORT else "http/protobuf")

    @property
    def url(self) -> str:
        """Return the URL for OTLP over HTTP."""
        return signal_url(self.endpoint)

    @property
    def effective_compression(self) -> Compression:
        """Return the configured compression, else gzip for remote servers only, because gzip is CPU-intensive."""
        return self.compression or ("none" if _is_local(urlsplit(self.endpoint).hostname or "") else "gzip")

    def place(self) -> Place:
        """Return the server; gRPC has no path."""
        if self.effective_protocol == "grpc":
            return self.network_place(urlsplit(self.endpoint)._replace(path="").geturl())
        return self.network_place(signal_url(self.endpoint))


def _is_local(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or host == "::1" or _LOOPBACK.fullmatch(host) is not None


class OtlpConfig(ServerConfig, frozen=True):
    """Any server that accepts OTLP."""

    type: Literal["otlp"]
    auth: Auth | None = Field(
        None, description="Cloud whose library finds and renews the credentials; `aws` signs requests, HTTP only."
    )

    @model_validator(mode="after")
    def _check_auth(self) -> OtlpConfig:
        if self.auth is not None and self.effective_protocol == "grpc":
            raise field_error(("auth",), self.auth, "needs OTLP over HTTP: set `protocol: http/protobuf`")
        return self

    def place(self) -> Place:
        """Return the server and the cloud."""
        place = super().place()
        return replace(place, account={**place.account, "auth": self.auth})


class OtlpUrlConfig(OtlpConfig, frozen=True):
    """An OTLP server with the complete URL as endpoint, as in ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``."""

    @property
    def url(self) -> str:
        """Return the endpoint unchanged."""
        return self.endpoint


class CollectorConfig(ServerConfig, frozen=True):
    """An OpenTelemetry Collector."""

    type: Literal["otel-collector"]


class JaegerConfig(ServerConfig, frozen=True):
    """A Jaeger server."""

    type: Literal["jaeger"]
    endpoint: Address = Field("http://localhost:4318", description="OTLP endpoint of Jaeger, HTTP or gRPC.")


class VendorConfig(NetworkConfig, frozen=True):
    """A product that accepts OTLP over HTTP; its fields are defined in ``otlp_vendors``."""

    compression: Compression = Field("gzip", description="Compression of bodies.")

    @property
    def has_own_format(self) -> bool:
        """Return whether the product's own API is used."""
        return is_native(self)

    @property
    def compresses(self) -> bool:
        """Return whether bodies are compressed."""
        row = OTLP_VENDORS[self.type]
        return self.compression == "gzip" and (row.native_compresses if is_native(self) else row.compresses)

    @model_validator(mode="after")
    def _check_compression_is_used(self) -> VendorConfig:
        if "compression" in self.model_fields_set and self.compression == "gzip" and not self.compresses:
            row = OTLP_VENDORS[self.type]
            way = f"{row.title}'s own intake" if is_native(self) else row.title
            other = "`intake: otlp`, or `none`" if is_native(self) else "`none`"
            raise field_error(
                ("compression",), self.compression, f"has no effect: {way} takes no compression; set {other}"
            )
        return self

    @model_validator(mode="after")
    def _check_one_credential(self) -> VendorConfig:
        given = [name for name in OTLP_VENDORS[self.type].one_of if getattr(self, name)]
        if len(given) > 1:
            raise field_error((given[1],), None, f"has no effect: `{given[0]}` takes its place")
        return self

    @model_validator(mode="after")
    def _check_headers(self) -> VendorConfig:
        row = OTLP_VENDORS[self.type]
        for header, value in target(row, self).headers.items():
            if not value.isascii():
                field_names = [name for name in row.fields if f"{{{name}}}" in row.headers.get(header, "")]
                raise field_error(tuple(field_names[:1]), None, f"is sent in the header {header}, so it must be ASCII")
        return self

    def place(self) -> Place:
        """Return the address and the account from the vendor's description and the fields."""
        request_target = target(OTLP_VENDORS[self.type], self)
        return self.network_place(request_target.url, request_target.account, request_target.credentials)


@functools.cache
def vendor_config(kind: str) -> type[VendorConfig]:
    """Return the model of the vendor ``kind``: the common fields and those of the vendor."""
    row = OTLP_VENDORS[kind]
    fields: dict[str, Any] = {"type": (Literal[kind], Field(description="The destination type.")), **row.fields}
    return create_model(f"{kind.title()}Config", __base__=VendorConfig, __doc__=row.about, **fields)


def is_native(config: DestinationConfig) -> bool:
    """Return whether ``config`` is a vendor whose own API is used."""
    return getattr(config, "intake", None) == "native"


_TITLES: Final = {"otlp": "OTLP", "otel-collector": "OpenTelemetry Collector", "jaeger": "Jaeger"}


def create(config: ServerConfig, encoder: Encoder) -> Destination:
    """Return the destination of ``config``, using gRPC or HTTP.

    Raises:
        ConfigError: A certificate or a proxy cannot be used.
    """
    # Reading a configuration imports no HTTP client.
    from spancast.destinations.http import sender_of  # noqa: PLC0415 - see above
    from spancast.destinations.otlp import OtlpGrpcDestination, OtlpHttpDestination  # noqa: PLC0415 - see above

    product = _TITLES[config.type]
    if config.effective_protocol == "grpc":
        return OtlpGrpcDestination(
            config.endpoint, config, encoder, product=product, compression=config.effective_compression
        )
    sender = sender_of(config, config.url, product=product, auth=getattr(config, "auth", None))
    encoding = "json" if config.effective_protocol == "http/json" else "protobuf"
    return OtlpHttpDestination(sender, encoder, encoding=encoding, gzip=config.effective_compression == "gzip")


def create_vendor(config: VendorConfig, encoder: Encoder) -> Destination:
    """Return the destination of ``config``, using its description in ``otlp_vendors``.

    Raises:
        ConfigError: A certificate or a proxy cannot be used.
    """
    from spancast.destinations.http import sender_of  # noqa: PLC0415 - as in create()
    from spancast.destinations.otlp import OtlpHttpDestination  # noqa: PLC0415 - as in create()

    row = OTLP_VENDORS[config.type]
    if is_native(config):
        return cast("Destination", load(cast("str", row.native))(config, encoder))
    request_target = target(row, config)
    # A key of the product itself takes precedence over the credentials of its cloud.
    own = {name.lower() for name in (*request_target.headers, *config.headers)}
    auth = None if "authorization" in own else row.auth
    sender = sender_of(config, request_target.url, product=row.title, headers=request_target.headers, auth=auth)
    return OtlpHttpDestination(
        sender,
        encoder,
        encoding=row.accepted[0],
        gzip=config.compresses,
        resource=request_target.resource,
        max_batch_spans=row.max_batch_spans,
        max_batch_bytes=row.max_batch_bytes,
    )
