from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.destinations.configs import CANARY, REQUIRED, config

from spancast.destinations import registry
from spancast.encoding.conventions.registry import CONVENTIONS
from spancast.model.entry_points import load

SCHEMAS = Path("/work/shared/openrouter/schemas.json")
OPENROUTER_TYPES = {
    "Arize": "arize", "Braintrust": "braintrust", "Clickhouse": "clickhouse", "Datadog": "datadog", "Grafana": "grafana",
    "Langfuse": "langfuse", "Langsmith": "langsmith", "Newrelic": "newrelic", "Opik": "opik", "OtelCollector": "otel-collector",
    "S3": "s3", "Sentry": "sentry", "Weave": "weave", "Webhook": "webhook",
}  # fmt: skip


@pytest.mark.parametrize("kind", registry.DESTINATIONS)
def test_destination_row_is_complete(kind: str) -> None:
    row, model = registry.DESTINATIONS[kind], registry.config_model(kind)
    assert row.title
    assert row.about.endswith(".")
    assert row.convention in CONVENTIONS
    assert config(kind).type == kind
    assert issubclass(model, registry.DestinationConfig)
    assert callable(load(row.factory))


def test_destination_row_has_an_example_config() -> None:
    assert set(REQUIRED) == set(registry.DESTINATIONS)


@pytest.mark.parametrize("kind", registry.DESTINATIONS)
def test_fields_are_described_and_secrets_marked(kind: str) -> None:
    fields = {field.name: field for field in registry.fields(kind)}
    assert all(field.about for field in fields.values())
    for name, value in REQUIRED[kind].items():
        if CANARY in str(value):
            assert fields[name].is_secret, name
    assert fields["sampling_rate"].default == "1.0"
    assert fields["sampling_rate"].is_common
    assert [field.is_common for field in fields.values()] == sorted(field.is_common for field in fields.values())


def test_canonical_accepts_aliases_and_spellings() -> None:
    written = ("langfuse", " LangFuse", "collector", "otel_collector", "OTEL-Collector", "arize-ax")
    assert [registry.canonical(name) for name in written] == [
        "langfuse",
        "langfuse",
        "otel-collector",
        "otel-collector",
        "otel-collector",
        "arize",
    ]
    assert registry.canonical("nothing") is None


def test_spans_all_is_the_default_of_general_types() -> None:
    all_spans = {kind for kind in registry.DESTINATIONS if config(kind).spans == "all"}
    assert all_spans == {"otlp", "otel-collector", "jaeger", "exporter"}


def test_importing_registry_loads_no_vendor_library() -> None:
    code = "import json, sys; from spancast.destinations import registry; [registry.config_model(kind) for kind in registry.DESTINATIONS]; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert not loaded & {"boto3", "botocore", "clickhouse_connect", "chdb", "grpc", "requests", "urllib3", "httpx"}


@pytest.mark.skipif(not SCHEMAS.exists(), reason="OpenRouter's schemas are not available")
@pytest.mark.parametrize("name", OPENROUTER_TYPES)
def test_config_has_every_field_and_default_of_openrouter(name: str) -> None:
    """``looser`` lists the fields that are required by OpenRouter and optional here."""
    kind = OPENROUTER_TYPES[name]
    contract = json.loads(SCHEMAS.read_text())["schemas"][f"Observability{name}Destination"]["properties"]["config"]
    model = registry.config_model(kind)
    own = model.model_json_schema(by_alias=False)["properties"]
    names = {alias: field for field, info in model.model_fields.items() for alias in info.validation_alias.choices}  # type: ignore[union-attr]
    looser = {
        "clickhouse": {"database", "username", "password"},  # OpenRouter's documentation differs from its schema
        "s3": {"accessKeyId", "secretAccessKey"},  # boto3 finds them
        "sentry": {"otlpEndpoint"},  # follows from the DSN
    }
    # OpenRouter's page is newer than the schema (its SDK 1.3.83).
    newer = {"datadog": {"url": "https://api.datadoghq.com"}}
    for field, about in contract["properties"].items():
        ours = own[names[field]]
        if "default" in about:
            assert ours["default"] == newer.get(kind, {}).get(field, about["default"]), field
        assert (names[field] in model.model_json_schema(by_alias=False).get("required", ())) == (
            field in contract["required"] and field not in looser.get(kind, ())
        ), field
