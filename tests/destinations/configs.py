"""A valid configuration of every type, each credential a canary of its own; for whatever goes over all rows."""

from __future__ import annotations

from typing import Any

from spancast.destinations.config import DestinationConfig
from spancast.destinations.table import config_model

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
"""What must be given (and what is worth giving) per type."""


def config(kind: str, **others: Any) -> DestinationConfig:
    """Return a valid configuration of ``kind``."""
    return config_model(kind).model_validate({"type": kind, **REQUIRED[kind], **others})
