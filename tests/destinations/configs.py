"""A valid configuration of every destination type, with a canary in each credential, for tests of all types."""

from __future__ import annotations

from typing import Any

from spancast.destinations.config import DestinationConfig
from spancast.destinations.registry import config_model

CANARY = "credential-canary"

REQUIRED: dict[str, dict[str, Any]] = {
    "otlp": {"endpoint": "http://otlp.test:4318"},
    "otel-collector": {"endpoint": "http://collector.test:4318/v1/traces"},
    "jaeger": {},
    "webhook": {"url": "https://hook.test/in"},
    "file": {"path": "spans.jsonl"},
    "console": {},
    "store": {},
    "clickhouse": {"host": "clickhouse.test", "password": f"{CANARY}-password"},
    "s3": {"bucket": "traces", "access_key_id": "key", "secret_access_key": f"{CANARY}-secret"},
    "exporter": {"exporter": "console"},
    "langfuse": {"public_key": f"{CANARY}-public", "secret_key": f"{CANARY}-secret", "environment": "production"},
    "langsmith": {"api_key": f"{CANARY}-key", "workspace_id": "workspace"},
    "arize": {"api_key": f"{CANARY}-key", "space_key": f"{CANARY}-space", "model_id": "support-bot"},
    "phoenix": {"api_key": f"{CANARY}-key", "project": "support-bot"},
    "braintrust": {"api_key": f"{CANARY}-key", "project_id": "project-1"},
    "opik": {"api_key": f"{CANARY}-key", "workspace": "team", "project_name": "support-bot"},
    "weave": {"api_key": f"{CANARY}-key", "entity": "team", "project": "support-bot"},
    "posthog": {"api_key": f"{CANARY}-key"},
    "grafana": {"api_key": f"{CANARY}-key", "instance_id": 123456},
    "newrelic": {"license_key": f"{CANARY}-key"},
    "sentry": {"dsn": f"https://{CANARY}@o1.ingest.us.sentry.io/4505"},
    "datadog": {"api_key": f"{CANARY}-key", "ml_app": "support-bot"},
    "honeycomb": {"api_key": f"{CANARY}-key"},
    "dynatrace": {"base_url": "https://abc12345.live.dynatrace.com", "api_token": f"{CANARY}-token"},
    "elastic": {"base_url": "https://deployment.ingest.us-east-1.aws.elastic.cloud", "api_key": f"{CANARY}-key"},
    "traceloop": {"api_key": f"{CANARY}-key"},
    "mlflow": {},
}
"""The required fields per type, and some optional ones."""

ELSEWHERE: dict[str, dict[str, Any]] = {
    "otlp": {"endpoint": "http://other.test:4318"},
    "otel-collector": {"endpoint": "http://collector.test:4319/v1/traces"},
    "jaeger": {"endpoint": "http://jaeger.test:4318"},
    "webhook": {"url": "https://hook.test/in?for=other"},
    "file": {"path": "other.jsonl"},
    "console": {"stream": "stdout"},
    "store": {"path": "other.db"},
    "clickhouse": {
        "host": "other.test", "database": "other", "table": "other", "username": "other", "entity_id": "other",
        "organization_id": "other",
    },
    "s3": {
        "bucket": "other", "region": "eu-west-1", "endpoint": "https://minio.test", "prefix": "other",
        "path_template": "{prefix}/{year}", "provider": "gcs", "namespace": "other",
    },
    "exporter": {"exporter": "otlp_proto_http", "options": {"endpoint": "https://other.test"}},
    "langfuse": {"public_key": "pk-other", "base_url": "https://other.test", "environment": "other"},
    "langsmith": {
        "api_key": "other", "project": "other", "endpoint": "https://other.test", "workspace_id": "other",
    },
    "arize": {"space_key": "other", "model_id": "other", "base_url": "https://other.test"},
    "phoenix": {"api_key": "other", "project": "other", "base_url": "https://other.test"},
    "braintrust": {"project_id": "other", "base_url": "https://other.test"},
    "opik": {"workspace": "other", "project_name": "other", "base_url": "https://other.test"},
    "weave": {"entity": "other", "project": "other", "base_url": "https://other.test"},
    "posthog": {"api_key": "other", "endpoint": "https://other.test"},
    "grafana": {"instance_id": 7, "base_url": "https://other.test"},
    "newrelic": {"license_key": "other", "region": "eu", "base_url": "https://other.test"},
    "sentry": {
        "dsn": f"https://{CANARY}@o1.ingest.us.sentry.io/4506", "otlp_endpoint": "https://other.test/api/1/otlp",
    },
    "datadog": {"api_key": "other", "ml_app": "other", "url": "https://api.datadoghq.eu"},
    "honeycomb": {"api_key": "other", "dataset": "other", "region": "eu", "base_url": "https://other.test"},
    "dynatrace": {"base_url": "https://other.live.dynatrace.com"},
    "elastic": {"base_url": "https://other.test"},
    "traceloop": {"api_key": "other", "base_url": "https://other.test"},
    "mlflow": {"base_url": "http://other.test", "experiment_id": "7"},
}  # fmt: skip
"""Per type, each field that identifies the destination (address, account, part of the account), with another value."""

SAME_PLACE: dict[str, dict[str, Any]] = {
    "otlp": {"protocol": "http/json", "compression": "gzip"},
    "otel-collector": {"protocol": "http/json", "compression": "gzip"},
    "jaeger": {"protocol": "http/json", "compression": "gzip"},
    "webhook": {"method": "PUT"},
    "file": {"max_bytes": "1MiB", "keep": 2},
    "console": {},
    "store": {"max_age": "1d"},
    "clickhouse": {"password": "other", "create_table": True, "should_include_cache_write_tokens": False},
    "s3": {
        "access_key_id": "other",
        "secret_access_key": "other",
        "session_token": "other",
        "auth_mode": "iam_role",
        "role_arn": "arn:aws:iam::123456789012:role/other",
        "external_id": "other",
    },
    "exporter": {},
    "langfuse": {"secret_key": "other", "release": "2"},
    "langsmith": {},
    "arize": {"api_key": "other"},
    "phoenix": {},
    "braintrust": {"api_key": "other"},
    "opik": {"api_key": "other"},
    "weave": {"api_key": "other"},
    "posthog": {},
    "grafana": {"api_key": "other"},
    "newrelic": {},
    "sentry": {},
    "datadog": {},
    "honeycomb": {},
    "dynatrace": {"api_token": "other"},
    "elastic": {"api_key": "other", "secret_token": "other"},
    "traceloop": {},
    "mlflow": {"token": "other"},
}
"""Per type, each specific field that does not identify it. A new credential must not strand queued spans."""


def config(kind: str, **others: Any) -> DestinationConfig:
    """Return a valid configuration of ``kind``."""
    return config_model(kind).model_validate({"type": kind, **REQUIRED[kind], **others})
