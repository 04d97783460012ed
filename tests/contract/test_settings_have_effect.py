"""Every field of every destination type has an effect, or is rejected where it would have none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError
from tests.destinations.configs import REQUIRED, SERVICE_ACCOUNT
from tests.destinations.payloads import payload
from tests.ports import own_port

from spancast.destinations.config import DestinationConfig
from spancast.destinations.encoder_config import encoder_for
from spancast.destinations.otlp_vendors import OTLP_VENDORS, target
from spancast.destinations.registry import DESTINATIONS, config_model, create
from spancast.diagnostics import guarded
from spancast.export.filtering import DestinationFilter
from spancast.model import json_codec

ADDRESS = {
    "otlp": "endpoint", "otel-collector": "endpoint", "jaeger": "endpoint", "webhook": "url", "clickhouse": "host",
    "firehose": "endpoint", "s3": "endpoint", "langsmith": "endpoint", "posthog": "endpoint", "sentry": "otlp_endpoint",
    "datadog": "url",
}  # fmt: skip
READ_ELSEWHERE = {
    "type", "enabled", "trace_url",
    # With a table, in its own tests; without `base_url`, `endpoint` and with `cert_file`.
    "create_table", "table", "entity_id", "organization_id", "should_include_cache_write_tokens",
    "account", "provider", "key_file",
}  # fmt: skip


def variations(kind: str) -> list[dict[str, Any]]:
    base: dict[str, Any] = {**REQUIRED[kind], "timeout": 0.2}
    if kind == "redis":
        base["url"] = f"redis://127.0.0.1:{own_port()}"
    elif kind == "postgres":
        base["url"] = f"postgresql://u:p@127.0.0.1:{own_port()}/app"
    elif kind == "kafka":
        base["bootstrap_servers"] = f"127.0.0.1:{own_port()}"
    elif kind not in {"file", "console", "store", "exporter", "parquet"}:
        base[ADDRESS.get(kind, "base_url")] = f"http://127.0.0.1:{own_port()}"
    if kind == "parquet":
        base["options"] = {"access_key_id": "k", "secret_access_key": "s", "region": "r"}
    if "timeout" not in config_model(kind).model_fields:
        del base["timeout"]
    if kind == "bigquery":
        key = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {**json_codec.decode(SERVICE_ACCOUNT), "private_key": key.decode()}
        base["service_account_key"] = json_codec.encode(account)
    if kind in {"otlp", "otel-collector", "jaeger"}:
        return [base, {**base, "protocol": "grpc"}]
    # What an assumed role and other modes read.
    more = {
        "file": {"max_bytes": 10, "path": "spans.jsonl"},
        "firehose": {"role_arn": "arn"},
        "s3": {"role_arn": "arn"},
    }
    native = {"intake": "otlp"} if "intake" in config_model(kind).model_fields else {}
    return [base, {**base, **more.get(kind, {}), **native}]


def fields_read(kind: str, given: Mapping[str, Any]) -> set[str]:
    """Return the fields that a destination reads until its first delivery."""
    model, names = config_model(kind), set[str]()

    class Tracking(model, frozen=True):  # type: ignore[valid-type,misc]
        def __getattribute__(self, name: str) -> Any:
            if name in model.model_fields:
                names.add(name)
            return super().__getattribute__(name)

    config: DestinationConfig = Tracking.model_validate({"type": kind, **given})
    names.clear()
    DestinationFilter("one", config)
    encoder_for(config, "gen_ai")
    to = create(config, "one")
    guarded(to.deliver, lambda _: None)(payload(), 0.2)
    if kind != "kafka":
        guarded(to.test_connection, lambda _: None)(0.2)
    to.close()
    return names


@pytest.mark.parametrize("kind", DESTINATIONS)
def test_every_field_is_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found: set[str] = set()
    for given in variations(kind):
        found |= fields_read(kind, given)
    assert set(config_model(kind).model_fields) - found - READ_ELSEWHERE == set()


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, row in OTLP_VENDORS.items() for name in row.fields if name != "intake"]
)
def test_every_field_of_a_vendor_changes_its_requests(kind: str, name: str) -> None:
    """What is read by the row is in its URL, headers or resource."""
    row, given = OTLP_VENDORS[kind], {"type": kind, **REQUIRED[kind]}
    model = config_model(kind)
    if name in {"region", "realm"}:
        given.pop("base_url", None)
    choices = [1, 2] if name == "instance_id" else ["us", "eu", "eu1", "us2", "one", "two", "http://one.test"]
    found: set[str] = set()
    for choice in [*choices, "https://k@one.test/1", "https://l@two.test/2"]:
        try:
            made = target(row, model.model_validate({**given, name: choice}))
        except ValidationError:
            continue
        found.add(repr((made.url, sorted(made.headers.items()), sorted(made.resource.items()))))
    secret = name == "secret_token"
    assert len(found) > 1 or secret, "it changes nothing"


@pytest.mark.parametrize(
    ("kind", "fields", "wrong"),
    [
        ("datadog", {"compression": "gzip"}, "compression"),
        *[
            (kind, {"convention": "langfuse"}, "convention")
            for kind in (
                "clickhouse", "postgres", "bigquery", "snowflake", "s3", "parquet", "kafka", "redis", "firehose",
                "console", "store", "datadog", "posthog",
            )
        ],
        ("elastic", {"secret_token": "t"}, "secret_token"),
        ("file", {"keep": 3}, "max_bytes"),
        ("kafka", {"sasl_username": None}, "sasl_username"),
        ("kafka", {"key_file": __file__}, "cert_file"),
        ("parquet", {"path": "folder"}, "options"),
        ("s3", {"external_id": "id"}, "role_arn"),
        ("s3", {"auth_mode": "access_keys", "role_arn": "arn"}, "role_arn"),
        ("s3", {"access_key_id": None}, "access_key_id"),
        ("firehose", {"secret_access_key": None}, "secret_access_key"),
        ("s3", {"access_key_id": None, "secret_access_key": None, "session_token": "t"}, "access_key_id"),
        ("s3", {"namespace": "n", "provider": "gcs"}, "namespace"),
        ("s3", {"namespace": "n", "endpoint": "http://one.test"}, "namespace"),
        ("bigquery", {"headers_from": "spancast.errors:ConfigError"}, "service_account_key"),
    ],
)  # fmt: skip
def test_field_without_effect_is_rejected(kind: str, fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationError) as raised:
        config_model(kind).model_validate({"type": kind, **REQUIRED[kind], **fields})
    [error] = raised.value.errors()
    assert error["loc"] == (wrong,)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("datadog", {"compression": "gzip", "intake": "otlp"}),
        ("datadog", {"compression": "none"}),
        ("datadog", {"convention": "langfuse", "intake": "otlp"}),
        ("posthog", {"compression": "gzip"}),
        ("kafka", {"convention": "langfuse", "format": "otlp_proto"}),
        ("file", {"convention": "langfuse", "keep": 3, "max_bytes": 10}),
        ("s3", {"role_arn": "arn", "external_id": "id", "auth_mode": "iam_role"}),
    ],
)
def test_field_with_an_effect_is_accepted(kind: str, fields: dict[str, Any]) -> None:
    assert config_model(kind).model_validate({"type": kind, **REQUIRED[kind], **fields})


def test_kafka_mechanism_without_a_user_is_used() -> None:
    given = {"bootstrap_servers": "k:9092", "sasl_mechanism": "OAUTHBEARER", "ca_file": __file__}
    properties = config_model("kafka").model_validate({"type": "kafka", **given}).properties()  # type: ignore[attr-defined]
    assert (properties["security.protocol"], properties["sasl.mechanism"]) == ("SASL_SSL", "OAUTHBEARER")
