"""Every vendor's URL, headers and resource as its page has them; the golden files are the review."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.configs import CANARY, config

from spancast.destinations.otlp_vendors import OTLP_VENDORS
from spancast.destinations.vendor_row import signal_url, target
from spancast.encoding.conventions.registry import CONVENTIONS

GOLDEN = Path(__file__).parents[1] / "golden" / "destinations"


def reached(kind: str, **others: Any) -> Any:
    return target(OTLP_VENDORS[kind], config(kind, **others))


@pytest.mark.parametrize("kind", OTLP_VENDORS)
def test_request_as_the_vendor_documents_it(kind: str) -> None:
    row, found = OTLP_VENDORS[kind], reached(kind)
    told = {
        "url": found.url,
        "headers": dict(found.headers),
        "resource": dict(found.resource),
        "convention": row.convention,
        "accepted": list(row.accepted),
        "source": row.source,
    }
    path = GOLDEN / f"{kind}.request.json"
    if os.environ.get("SPANCAST_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    assert json.loads(path.read_text()) == told


@pytest.mark.parametrize("kind", OTLP_VENDORS)
def test_rows_are_complete(kind: str) -> None:
    row = OTLP_VENDORS[kind]
    assert row.title
    assert row.about
    assert row.source
    assert row.convention in CONVENTIONS
    assert CANARY not in repr(reached(kind))
    assert CANARY not in repr(config(kind)) + config(kind).model_dump_json()


@pytest.mark.parametrize("kind", OTLP_VENDORS)
def test_every_given_field_reaches_the_request(kind: str) -> None:
    """A field of a row that no template names would be accepted and ignored."""
    row = OTLP_VENDORS[kind]
    templates = "".join([row.base, row.basic, *row.headers.values(), *row.resource.values()])
    derived = (
        {"region", "base_url", "url", "dsn", "otlp_endpoint", "api_key", "secret_token"} if row.derive else set[str]()
    )
    assert {name for name in row.fields if f"{{{name}}}" not in templates} <= derived


@pytest.mark.parametrize(
    ("kind", "field", "full"),
    [
        ("langfuse", "base_url", "https://lf.test/api/public/otel/v1/traces"),
        ("langsmith", "endpoint", "https://ls.test/otel/v1/traces"),
        ("arize", "base_url", "https://otlp.eu-west-1a.arize.com/v1/traces"),
        ("phoenix", "base_url", "http://localhost:6006/v1/traces"),
        ("braintrust", "base_url", "https://api.braintrust.dev/otel/v1/traces"),
        ("opik", "base_url", "http://localhost:5173/api/v1/private/otel/v1/traces"),
        ("weave", "base_url", "https://acme.wandb.io/traces/otel/v1/traces"),
        ("grafana", "base_url", "https://otlp-gateway-prod-eu-west-2.grafana.net/otlp/v1/traces"),
        ("newrelic", "base_url", "https://gov-otlp.nr-data.net/v1/traces"),
        ("sentry", "otlp_endpoint", "https://o1.ingest.sentry.io/api/5/integration/otlp/v1/traces"),
        ("honeycomb", "base_url", "https://api.eu1.honeycomb.io/v1/traces"),
        ("dynatrace", "base_url", "https://gate:9999/e/abc/api/v2/otlp/v1/traces"),
        ("elastic", "base_url", "https://apm.test:8200/v1/traces"),
        ("traceloop", "base_url", "https://tl.test/v1/traces"),
        ("mlflow", "base_url", "http://localhost:5000/v1/traces"),
        ("datadog", "url", "http://proxy.test/v1/traces"),
    ],
)
def test_base_half_and_full_urls_come_to_the_same(kind: str, field: str, full: str) -> None:
    path = OTLP_VENDORS[kind].path
    if kind == "sentry":
        path = "/v1/traces"
    base = full.removesuffix(path)
    halves = [base + path[:end] for end in range(len(path)) if path[end] == "/"]
    for given in {full, base, *halves}:
        for form in (given, given + "/", given + "//"):
            assert reached(kind, **{field: form}).url == full, form


def test_a_path_of_ones_own_before_the_signal_stays() -> None:
    assert (
        signal_url("https://gateway.test/teams/a/v1/traces", "/otlp/v1/traces")
        == "https://gateway.test/teams/a/v1/traces"
    )
    assert signal_url("https://h?token=a") == "https://h/v1/traces?token=a"


@pytest.mark.parametrize(
    ("kind", "url"),
    [("newrelic", "https://otlp.eu01.nr-data.net/v1/traces"), ("honeycomb", "https://api.eu1.honeycomb.io/v1/traces")],
)
def test_regions(kind: str, url: str) -> None:
    assert reached(kind, region="eu").url == url


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.datadoghq.com", "otlp.datadoghq.com"),
        ("https://api.us5.datadoghq.com/", "otlp.us5.datadoghq.com"),
        ("https://app.datadoghq.eu", "otlp.datadoghq.eu"),
        ("https://otlp.ap1.datadoghq.com/v1/traces", "otlp.ap1.datadoghq.com"),
        ("https://api.ddog-gov.com", "otlp.ddog-gov.com"),
        ("https://us3.datadoghq.com", "otlp.us3.datadoghq.com"),
    ],
)
def test_datadog_sites(url: str, host: str) -> None:
    assert reached("datadog", url=url).url == f"https://{host}/v1/traces"


def test_sentry_takes_key_and_place_from_the_dsn() -> None:
    found = reached("sentry", dsn="https://abc:old@sentry.test:8443/base/42/")
    assert found.url == "https://sentry.test:8443/base/api/42/integration/otlp/v1/traces"
    assert found.headers == {"x-sentry-auth": "sentry sentry_key=abc"}


def test_elastic_by_secret_token_and_without_any() -> None:
    assert reached("elastic", api_key=None, secret_token="t").headers == {"Authorization": "Bearer t"}
    assert reached("elastic", api_key=None).headers == {}


def test_what_names_a_field_that_is_not_given_is_left_out() -> None:
    assert "x-tenant-id" not in reached("langsmith", workspace_id=None).headers
    assert reached("langfuse", environment=None).resource == {}
    assert reached("phoenix", api_key=None).headers == {}


def test_what_no_header_can_hold_is_told_at_configuration() -> None:
    with pytest.raises(ValueError, match="is sent in the header Langsmith-Project, so it must be ASCII"):
        config("langsmith", project="客服")
    with pytest.raises(ValueError, match="is sent in the header api-key, so it must be ASCII"):
        config("newrelic", license_key="clé")
    assert reached("langfuse", secret_key="clé").headers["Authorization"].isascii()
