"""URL, headers and resource of every OTLP vendor, compared with golden files from the vendor's documentation."""

from __future__ import annotations

from typing import Any

import pytest
from tests.destinations.configs import CANARY, config
from tests.destinations.golden import assert_golden

from spancast.destinations.otlp_vendors import OTLP_VENDORS, signal_url, target
from spancast.encoding.conventions.registry import CONVENTIONS


def target_of(kind: str, **others: Any) -> Any:
    return target(OTLP_VENDORS[kind], config(kind, **others))


@pytest.mark.parametrize("kind", OTLP_VENDORS)
def test_vendor_request_matches_the_golden_file(kind: str) -> None:
    row, found = OTLP_VENDORS[kind], target_of(kind)
    request = {
        "url": found.url,
        "headers": dict(found.headers),
        "resource": dict(found.resource),
        "convention": row.convention,
        "accepted": list(row.accepted),
        "source": row.source,
    }
    assert_golden(f"{kind}.request", request)


@pytest.mark.parametrize("kind", OTLP_VENDORS)
def test_vendor_row_is_complete(kind: str) -> None:
    row = OTLP_VENDORS[kind]
    assert row.title
    assert row.about
    assert row.source
    assert row.convention in CONVENTIONS
    assert CANARY not in repr(target_of(kind))
    assert CANARY not in repr(config(kind)) + config(kind).model_dump_json()


@pytest.mark.parametrize("kind", OTLP_VENDORS)
def test_vendor_fields_are_all_used_in_the_request(kind: str) -> None:
    """A field without a template would be accepted and ignored."""
    row = OTLP_VENDORS[kind]
    templates = "".join([row.base, row.path, row.basic, *row.headers.values(), *row.resource.values()])
    derived = (
        {"region", "realm", "base_url", "url", "dsn", "otlp_endpoint", "api_key", "secret_token"}
        if row.derive
        else set[str]()
    )
    # The fields of a product's own intake are tested in test_native_intakes.py.
    derived |= {"intake"} if row.native else set()
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
        ("posthog", "endpoint", "https://eu.i.posthog.com/i/v0/ai/otel"),
        ("grafana", "base_url", "https://otlp-gateway-prod-eu-west-2.grafana.net/otlp/v1/traces"),
        ("newrelic", "base_url", "https://gov-otlp.nr-data.net/v1/traces"),
        ("sentry", "otlp_endpoint", "https://o1.ingest.sentry.io/api/5/integration/otlp/v1/traces"),
        ("honeycomb", "base_url", "https://api.eu1.honeycomb.io/v1/traces"),
        ("dynatrace", "base_url", "https://gate:9999/e/abc/api/v2/otlp/v1/traces"),
        ("elastic", "base_url", "https://apm.test:8200/v1/traces"),
        ("traceloop", "base_url", "https://tl.test/v1/traces"),
        ("mlflow", "base_url", "http://localhost:5000/v1/traces"),
        ("datadog", "url", "http://proxy.test/v1/traces"),
        ("signoz", "base_url", "http://localhost:4318/v1/traces"),
        ("langwatch", "base_url", "https://own.test/api/otel/v1/traces"),
        ("lunary", "base_url", "https://own.test/v1/traces"),
        ("honeyhive", "base_url", "https://own.test/opentelemetry/v1/traces"),
        ("galileo", "base_url", "https://own.test/otel/traces"),
        ("respan", "base_url", "https://own.test/api/v2/traces"),
        ("splunk", "base_url", "https://ingest.eu0.signalfx.com/v2/trace/otlp"),
        ("lightstep", "base_url", "https://own.test/traces/otlp/v0.9"),
        ("helicone", "base_url", "https://eu.api.helicone.ai/v1/trace/log"),
        ("maxim", "base_url", "https://own.test/v1/otel"),
        ("weave-agents", "base_url", "https://acme.wandb.io/traces/agents/otel/v1/traces"),
    ],
)
def test_vendor_url_with_or_without_path_is_completed(kind: str, field: str, full: str) -> None:
    path = OTLP_VENDORS[kind].path
    if kind == "sentry":
        path = "/v1/traces"
    base = full.removesuffix(path)
    partial = [base + path[:end] for end in range(len(path)) if path[end] == "/"]
    for url in {full, base, *partial}:
        for form in (url, url + "/", url + "//"):
            assert target_of(kind, **{field: form}).url == full, form


def test_signal_url_keeps_a_custom_path() -> None:
    assert (
        signal_url("https://gateway.test/teams/a/v1/traces", "/otlp/v1/traces")
        == "https://gateway.test/teams/a/v1/traces"
    )
    assert signal_url("https://h?token=a") == "https://h/v1/traces?token=a"


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("newrelic", "https://otlp.eu01.nr-data.net/v1/traces"),
        ("honeycomb", "https://api.eu1.honeycomb.io/v1/traces"),
        ("signoz", "https://ingest.eu.signoz.cloud:443/v1/traces"),
        ("logfire", "https://logfire-eu.pydantic.dev/v1/traces"),
    ],
)
def test_vendor_region_selects_the_url(kind: str, url: str) -> None:
    assert target_of(kind, region="eu").url == url


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
def test_datadog_site_selects_the_host(url: str, host: str) -> None:
    assert target_of("datadog", url=url).url == f"https://{host}/v1/traces"


def test_sentry_dsn_gives_key_and_url() -> None:
    found = target_of("sentry", dsn="https://abc:old@sentry.test:8443/base/42/")
    assert found.url == "https://sentry.test:8443/base/api/42/integration/otlp/v1/traces"
    assert found.headers == {"x-sentry-auth": "sentry sentry_key=abc"}


def test_elastic_authorization_is_token_or_absent() -> None:
    assert target_of("elastic", api_key=None, secret_token="t").headers == {"Authorization": "Bearer t"}
    assert target_of("elastic", api_key=None).headers == {}


def test_vendor_headers_without_their_field_are_omitted() -> None:
    assert "x-tenant-id" not in target_of("langsmith", workspace_id=None).headers
    assert target_of("langfuse", environment=None).resource == {}
    assert target_of("phoenix", api_key=None).headers == {}


def test_vendor_header_with_non_ascii_value_raises() -> None:
    with pytest.raises(ValueError, match="is sent in the header Langsmith-Project, so it must be ASCII"):
        config("langsmith", project="客服")
    with pytest.raises(ValueError, match="is sent in the header api-key, so it must be ASCII"):
        config("newrelic", license_key="clé")
    assert target_of("langfuse", secret_key="clé").headers["Authorization"].isascii()
