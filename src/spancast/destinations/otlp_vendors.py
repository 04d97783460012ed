"""The registry of OTLP vendors: fields, URL, headers and convention of each product.

Names and defaults of fields are those of OpenRouter's observability destinations if it has
the product. URL and headers are those of the vendor's page in ``source``.

``{field}`` in ``base``, ``headers``, ``basic`` and ``resource`` is replaced by the user's value. Headers
and resource attributes with a field that is not given are left out. ``basic`` is ``user:password`` of
HTTP Basic. ``account`` has the fields that identify the account and the project in it.
"""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, AliasChoices, BaseModel, Field, SecretStr

from spancast.destinations.cloud_auth import Auth
from spancast.destinations.field_types import Address, Secret, Text

FieldSpec: TypeAlias = tuple[Any, Any]
"""The type of a field and its pydantic ``Field``."""
Values: TypeAlias = Mapping[str, str]
Proof: TypeAlias = Literal["server", "emulator", "readers", "vendor", "users"]
"""How a contract was verified: the real server in the tests, an emulator, readers of its files, the vendor's
documentation, SDK or source, or only the public configurations of its users."""

TRACES: Final = "/v1/traces"
_ANY_BASE: Final = "Base URL, with or without the path of its OTLP endpoint."
_OWN_SERVER: Final = "Base URL of another server, with or without the path of its OTLP endpoint."
_NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpVendor:
    """A product that accepts OTLP over HTTP.

    The missing part of ``path`` is added to ``base``. ``derive`` adds values for templates and ``account``.
    ``accepted`` has the encodings that the product accepts, the preferred one first. A credential is in
    ``account`` only if nothing else identifies the account: queued spans are not delivered with another one.
    ``max_batch_spans`` and ``max_batch_bytes`` are the product's limits of a request if they are lower than those
    of every batch (``export/delivery_worker.py``: 1024 spans, 2 MiB). ``auth`` is the cloud whose credentials are used
    if no field is one. ``native`` is the import name of the function that creates the destination of
    `intake: native`. ``compresses`` is whether the product takes compressed OTLP, ``native_compresses`` whether its own
    API does. ``one_of`` are credentials of which the first that is given is used. ``proof`` is how the contract was
    verified, ``repeats`` what becomes of a span that is sent twice.
    """

    title: str
    about: str
    source: str
    fields: Mapping[str, FieldSpec]
    base: str = "{base_url}"
    path: str = TRACES
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    basic: str = ""
    account: tuple[str, ...] = ()
    resource: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    convention: str = "gen_ai"
    derive: Callable[[Values], Values] | None = None
    accepted: tuple[Literal["protobuf", "json"], ...] = ("protobuf", "json")
    max_batch_spans: int | None = None
    max_batch_bytes: int | None = None
    auth: Auth | None = None
    native: str | None = None
    compresses: bool = True
    native_compresses: bool = True
    one_of: tuple[str, ...] = ()
    proof: Proof = "vendor"
    repeats: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """The request target of one destination; ``headers`` contain credentials."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    resource: Mapping[str, str]
    account: Mapping[str, str | None]
    credentials: Mapping[str, str | None] = field(repr=False)


def _type_of(kind: Any, default: Any) -> Any:  # noqa: ANN401 - pydantic's types are values here
    return kind | None if default is None else kind


def _secret(about: str, *, default: Any = ...) -> FieldSpec:  # noqa: ANN401 - pydantic's marker for "required"
    return _type_of(Secret, default), Field(default, description=about)


def _text(about: str, default: Any = ...) -> FieldSpec:  # noqa: ANN401
    return _type_of(Text, default), Field(default, description=about)


def _url(default: Any = ..., about: str = _ANY_BASE) -> FieldSpec:  # noqa: ANN401
    return _type_of(Address, default), Field(default, description=about)


def _region(default: str, *others: str) -> FieldSpec:
    return Literal[(default, *others)], Field(default, description="Region of the account; `base_url` overrides it.")  # pyright: ignore[reportInvalidTypeForm] - the names are the row's


def _host(template: str) -> Callable[[Values], Values]:
    return lambda values: {"base_url": values.get("base_url") or template.format_map(values)}


def _region_url(**hosts: str) -> Callable[[Values], Values]:
    return lambda values: {"base_url": values.get("base_url") or hosts[values["region"]]}


def datadog_site(url: str) -> str | None:
    """Return the Datadog site, such as ``datadoghq.com``, of which ``url`` is a host; None for another server."""
    hosts = r"(?:api|app|otlp|trace\.agent)?\.?((?:[a-z0-9-]+\.)?(?:datadoghq|ddog-gov)\.(?:com|eu))"
    site = re.fullmatch(hosts, urlsplit(url).netloc)
    return site[1] if site else None


def _datadog(values: Values) -> Values:
    # OpenRouter's `url` is the API host of the site (https://api.datadoghq.com); OTLP has another host.
    site = datadog_site(values["url"])
    return {"otlp_url": f"https://otlp.{site}" if site else values["url"]}


def _sentry(values: Values) -> Values:
    dsn = cast("re.Match[str]", _DSN.fullmatch(values["dsn"]))
    scheme, key, host, path, project = dsn.groups()
    endpoint = values.get("otlp_endpoint") or f"{scheme}://{host}{path}/api/{project}/integration/otlp"
    return {"base_url": endpoint, "key": key, "project": f"{host.lower()}{path}/{project}"}


def _elastic(values: Values) -> Values:
    key, token = values.get("api_key"), values.get("secret_token")
    return {"authorization": f"ApiKey {key}"} if key else {"authorization": f"Bearer {token}"} if token else {}


def _read_dsn(value: SecretStr) -> SecretStr:
    if not _DSN.fullmatch(value.get_secret_value().strip()):
        raise ValueError("must be a Sentry DSN, `https://KEY@HOST/PROJECT`")
    return value


_INTAKE: Final[FieldSpec] = (
    Literal["native", "otlp"],
    Field("native", description="API of the product, or its OTLP endpoint."),
)
_DSN: Final = re.compile(r"(https?)://([^:@/]+)(?::[^@/]*)?@([^/]+)((?:/[^/]+)*)/(\d+)/?")

OTLP_VENDORS: Final[Mapping[str, OtlpVendor]] = {
    "langfuse": OtlpVendor(
        title="Langfuse",
        about="Langfuse, cloud or your own server.",
        source="langfuse.com/integrations/native/opentelemetry",
        fields={
            "public_key": _secret("Public key, `pk-lf-…`."),
            "secret_key": _secret("Secret key, `sk-lf-…`."),
            "base_url": _url(
                "https://us.cloud.langfuse.com",
                "Base URL; `https://cloud.langfuse.com` for the EU, also `jp.cloud` and `hipaa.cloud`.",
            ),
            "environment": _text("Langfuse environment.", None),
            "release": _text("Langfuse release.", None),
        },
        path="/api/public/otel/v1/traces",
        basic="{public_key}:{secret_key}",
        # Without it, traces may be shown ten minutes late.
        headers={"x-langfuse-ingestion-version": "4"},
        resource={"langfuse.environment": "{environment}", "langfuse.release": "{release}"},
        account=("public_key", "environment"),
        convention="langfuse",
    ),
    "langsmith": OtlpVendor(
        title="LangSmith",
        about="LangSmith, cloud or your own server.",
        source="docs.langchain.com/langsmith/trace-with-opentelemetry",
        fields={
            "api_key": _secret("API key, `lsv2_…`."),
            "project": _text("Tracing project.", "main"),
            "endpoint": _url("https://api.smith.langchain.com"),
            "workspace_id": _text("Workspace, for a key of the whole organisation.", None),
        },
        base="{endpoint}",
        path="/otel/v1/traces",
        headers={"x-api-key": "{api_key}", "Langsmith-Project": "{project}", "x-tenant-id": "{workspace_id}"},
        account=("api_key", "project", "workspace_id"),
        convention="langsmith",
    ),
    "arize": OtlpVendor(
        title="Arize AX",
        about="Arize AX, in OpenInference.",
        source="arize.com/docs/ax (arize-otel 0.14)",
        fields={
            "api_key": _secret("API key."),
            "space_key": _secret("Space key or id."),
            "model_id": _text("Project name."),
            "base_url": _url("https://otlp.arize.com"),
        },
        headers={"api_key": "{api_key}", "space_id": "{space_key}"},
        resource={"openinference.project.name": "{model_id}"},
        account=("space_key", "model_id"),
        convention="openinference",
    ),
    "phoenix": OtlpVendor(
        title="Phoenix",
        about="Arize Phoenix, cloud or your own server, in OpenInference.",
        source="arize.com/docs/phoenix (arize-phoenix-otel 0.17)",
        proof="server",
        fields={
            "base_url": _url("http://localhost:6006"),
            "api_key": _secret("API key, if the server requires one.", default=None),
            "project": _text("Project name.", "default"),
        },
        headers={"Authorization": "Bearer {api_key}"},
        resource={"openinference.project.name": "{project}"},
        account=("api_key", "project"),
        convention="openinference",
        accepted=("protobuf",),
    ),
    "braintrust": OtlpVendor(
        title="Braintrust",
        about="Braintrust, by its OTLP endpoint.",
        source="braintrust.dev/docs/integrations/sdk-integrations/opentelemetry",
        fields={
            "api_key": _secret("API key, `sk-…`."),
            "project_id": _text("Project id."),
            "base_url": _url("https://api.braintrust.dev", "Base URL; `https://api-eu.braintrust.dev` for the EU."),
        },
        path="/otel/v1/traces",
        headers={"Authorization": "Bearer {api_key}", "x-bt-parent": "project_id:{project_id}"},
        account=("project_id",),
        convention="braintrust",
    ),
    "opik": OtlpVendor(
        title="Opik",
        about="Comet Opik, cloud or your own server, by its OTLP endpoint.",
        source="comet.com/docs/opik/integrations/opentelemetry",
        fields={
            "api_key": _secret("API key; any text for your own server."),
            "workspace": _text("Workspace."),
            "project_name": _text("Project."),
            "base_url": _url("https://www.comet.com/opik"),
        },
        path="/api/v1/private/otel/v1/traces",
        headers={"Authorization": "{api_key}", "Comet-Workspace": "{workspace}", "projectName": "{project_name}"},
        account=("workspace", "project_name"),
        convention="opik",
    ),
    "weave": OtlpVendor(
        title="W&B Weave",
        about="Weights & Biases Weave, by its OTLP endpoint.",
        source="docs.wandb.ai/weave/guides/tracking/otel",
        fields={
            "api_key": _secret("API key."),
            "entity": _text("Team or user name."),
            "project": _text("Project."),
            "base_url": _url("https://trace.wandb.ai"),
        },
        path="/otel/v1/traces",
        basic="api:{api_key}",
        # Older servers route by the header, newer ones by the resource.
        headers={"wandb-api-key": "{api_key}", "project_id": "{entity}/{project}"},
        resource={"wandb.entity": "{entity}", "wandb.project": "{project}"},
        account=("entity", "project"),
        convention="weave",
        accepted=("protobuf",),
    ),
    "posthog": OtlpVendor(
        title="PostHog",
        about="PostHog AI observability, by its batches of events or by OTLP.",
        source="posthog.com/docs/ai-observability/installation/manual-capture",
        repeats="one event, by its UUID (an assumption); by OTLP two, counted twice",
        native="spancast.destinations.posthog:create",
        fields={
            "api_key": _secret("Project token, `phc_…`."),
            "endpoint": _url("https://us.i.posthog.com", "URL of your PostHog."),
            "intake": _INTAKE,
        },
        base="{endpoint}",
        path="/i/v0/ai/otel",
        headers={"Authorization": "Bearer {api_key}"},
        account=("api_key",),
        convention="posthog",
        max_batch_spans=100,
    ),
    "grafana": OtlpVendor(
        title="Grafana Cloud",
        about="Grafana Cloud Traces (Tempo), by its OTLP gateway.",
        source="grafana.com/docs/grafana-cloud/send-data/otlp",
        fields={
            "api_key": _secret("Token, `glc_…`, with the scope traces:write."),
            "instance_id": _text("Instance id (a number)."),
            "base_url": _url("https://otlp-gateway-prod-us-west-0.grafana.net"),
        },
        path="/otlp/v1/traces",
        basic="{instance_id}:{api_key}",
        account=("instance_id",),
    ),
    "newrelic": OtlpVendor(
        title="New Relic",
        about="New Relic, US or EU.",
        source="docs.newrelic.com/docs/opentelemetry/best-practices/opentelemetry-otlp",
        fields={
            "license_key": _secret("License key."),
            "region": _region("us", "eu"),
            "base_url": _url(None),
        },
        headers={"api-key": "{license_key}"},
        account=("license_key",),
        convention="newrelic",
        max_batch_bytes=1_000_000,
        derive=_region_url(us="https://otlp.nr-data.net", eu="https://otlp.eu01.nr-data.net"),
    ),
    "sentry": OtlpVendor(
        title="Sentry",
        about="Sentry traces, by the OTLP endpoint of a project.",
        source="docs.sentry.io/concepts/otlp",
        fields={
            "dsn": (Annotated[Secret, AfterValidator(_read_dsn)], Field(description="DSN of the project.")),
            "otlp_endpoint": _url(None, "`…/integration/otlp/v1/traces`; default: that of the DSN's project."),
        },
        headers={"x-sentry-auth": "sentry sentry_key={key}"},
        account=("project",),
        convention="sentry",
        derive=_sentry,
    ),
    "datadog": OtlpVendor(
        title="Datadog",
        about="Datadog LLM Observability, by its own intake or by OTLP, which has no cost, cached tokens and user. A"
        " span that began more than 24 hours ago becomes a dead letter.",
        source="docs.datadoghq.com/llm_observability/instrumentation/api",
        native="spancast.destinations.datadog:create",
        native_compresses=False,
        fields={
            "api_key": _secret("API key."),
            "ml_app": _text("Name of the LLM application; becomes the service."),
            "url": _url("https://api.datadoghq.com", "API URL of your Datadog site."),
            "intake": _INTAKE,
        },
        base="{otlp_url}",
        headers={"dd-api-key": "{api_key}", "dd-otlp-source": "llmobs"},
        resource={"service.name": "{ml_app}"},
        account=("api_key", "ml_app"),
        convention="datadog",
        derive=_datadog,
    ),
    "honeycomb": OtlpVendor(
        title="Honeycomb",
        about="Honeycomb, US or EU.",
        source="docs.honeycomb.io/send-data/opentelemetry",
        fields={
            "api_key": _secret("Ingest key."),
            "dataset": _text("Dataset, for Honeycomb Classic.", None),
            "region": _region("us", "eu"),
            "base_url": _url(None),
        },
        headers={"x-honeycomb-team": "{api_key}", "x-honeycomb-dataset": "{dataset}"},
        account=("api_key", "dataset"),
        derive=_region_url(us="https://api.honeycomb.io", eu="https://api.eu1.honeycomb.io"),
    ),
    "dynatrace": OtlpVendor(
        title="Dynatrace",
        about="Dynatrace SaaS or ActiveGate.",
        source="docs.dynatrace.com/docs/shortlink/api-otlp-traces",
        fields={
            "base_url": _url(about="`https://ENVIRONMENT.live.dynatrace.com`, or that of an ActiveGate."),
            "api_token": _secret("Access token with the scope openTelemetryTrace.ingest."),
        },
        path="/api/v2/otlp/v1/traces",
        headers={"Authorization": "Api-Token {api_token}"},
        accepted=("protobuf",),
    ),
    "elastic": OtlpVendor(
        title="Elastic",
        about="Elastic Cloud's managed OTLP endpoint, or an APM Server.",
        source="elastic.co/docs (managed OTLP endpoint; APM Server OTLP intake)",
        fields={
            "base_url": (
                Address,
                Field(validation_alias=AliasChoices("base_url", "baseUrl", "endpoint"), description=_ANY_BASE),
            ),
            "api_key": _secret("API key in the encoded form that Kibana shows.", default=None),
            "secret_token": _secret("Secret token of an APM Server.", default=None),
        },
        headers={"Authorization": "{authorization}"},
        one_of=("api_key", "secret_token"),
        accepted=("protobuf",),
        derive=_elastic,
    ),
    "traceloop": OtlpVendor(
        title="Traceloop",
        about="Traceloop, in OpenLLMetry's convention.",
        source="traceloop.com/docs/openllmetry/integrations/traceloop",
        fields={"api_key": _secret("API key."), "base_url": _url("https://api.traceloop.com")},
        headers={"Authorization": "Bearer {api_key}"},
        account=("api_key",),
        convention="traceloop",
    ),
    "mlflow": OtlpVendor(
        title="MLflow",
        about="An MLflow tracking server.",
        source="mlflow.org/docs/latest/genai/tracing/opentelemetry/ingest",
        proof="server",
        fields={
            "base_url": _url("http://localhost:5000"),
            "experiment_id": _text("Experiment for the traces.", "0"),
            "token": _secret("Access token, if the server requires one.", default=None),
        },
        headers={"x-mlflow-experiment-id": "{experiment_id}", "Authorization": "Bearer {token}"},
        account=("experiment_id",),
        convention="mlflow",
        accepted=("protobuf",),
    ),
    "signoz": OtlpVendor(
        title="SigNoz",
        about="SigNoz, cloud or your own server.",
        source="signoz.io/docs/ai-observability-telemetry-requirements",
        fields={
            "ingestion_key": _secret("Ingestion key of the cloud.", default=None),
            "region": _region("us", "us2", "eu", "in"),
            "base_url": _url(None, _OWN_SERVER),
        },
        headers={"signoz-ingestion-key": "{ingestion_key}"},
        account=("ingestion_key",),
        convention="gen_ai_wide",
        derive=_host("https://ingest.{region}.signoz.cloud:443"),
    ),
    "uptrace": OtlpVendor(
        title="Uptrace",
        about="Uptrace, cloud or your own server.",
        source="public configurations of users",
        proof="users",
        fields={
            "dsn": _secret("DSN of the project, `https://TOKEN@api.uptrace.dev?grpc=4317`."),
            "base_url": _url("https://api.uptrace.dev"),
        },
        headers={"uptrace-dsn": "{dsn}"},
        account=("dsn",),
        convention="gen_ai_wide",
    ),
    "hyperdx": OtlpVendor(
        title="HyperDX",
        about="HyperDX (ClickStack), cloud or your own server.",
        source="public configurations of users",
        proof="users",
        fields={"api_key": _secret("Ingestion key."), "base_url": _url("https://in-otel.hyperdx.io")},
        headers={"authorization": "{api_key}"},
        account=("api_key",),
        convention="gen_ai_wide",
    ),
    "axiom": OtlpVendor(
        title="Axiom",
        about="Axiom, in the form of its AI engineering pages.",
        source="axiom.co/docs/ai-engineering/observe/manual-instrumentation",
        fields={
            "api_token": _secret("API token, `xaat-…`."),
            "dataset": _text("Dataset."),
            "base_url": _url("https://api.axiom.co"),
        },
        headers={"Authorization": "Bearer {api_token}", "X-Axiom-Dataset": "{dataset}"},
        account=("api_token", "dataset"),
        convention="axiom",
    ),
    "betterstack": OtlpVendor(
        title="Better Stack",
        about="Better Stack Telemetry.",
        source="public configurations of users",
        proof="users",
        fields={
            "base_url": _url(about="Ingesting host of the source, `https://sID.CLUSTER.betterstackdata.com`."),
            "source_token": _secret("Source token."),
        },
        headers={"Authorization": "Bearer {source_token}"},
        account=("source_token",),
        convention="gen_ai_wide",
    ),
    "laminar": OtlpVendor(
        title="Laminar",
        about="Laminar, cloud or your own server.",
        source="docs.lmnr.ai (SDK lmnr)",
        fields={"api_key": _secret("Project API key."), "base_url": _url("https://api.lmnr.ai")},
        headers={"Authorization": "Bearer {api_key}"},
        account=("api_key",),
        convention="laminar",
    ),
    "langwatch": OtlpVendor(
        title="LangWatch",
        about="LangWatch, cloud or your own server.",
        source="github.com/langwatch/langwatch, app-layer/traces/canonicalisation",
        fields={"api_key": _secret("Project API key."), "base_url": _url("https://app.langwatch.ai")},
        path="/api/otel/v1/traces",
        headers={"Authorization": "Bearer {api_key}", "X-Auth-Token": "{api_key}"},
        account=("api_key",),
        convention="langwatch",
    ),
    "lunary": OtlpVendor(
        title="Lunary",
        about="Lunary, cloud or your own server.",
        source="github.com/lunary-ai/lunary, packages/backend/src/api/otel",
        fields={"public_key": _secret("Public key of the project."), "base_url": _url("https://api.lunary.ai")},
        headers={"Authorization": "Bearer {public_key}"},
        account=("public_key",),
        convention="lunary",
        accepted=("protobuf",),
        # Its server parses the body as it is.
        compresses=False,
    ),
    "promptlayer": OtlpVendor(
        title="PromptLayer",
        about="PromptLayer.",
        source="docs.promptlayer.com (SDK promptlayer)",
        fields={"api_key": _secret("API key."), "base_url": _url("https://api.promptlayer.com")},
        headers={"X-API-KEY": "{api_key}"},
        account=("api_key",),
        convention="gen_ai_wide",
    ),
    "agenta": OtlpVendor(
        title="Agenta",
        about="Agenta, cloud or your own server.",
        source="github.com/Agenta-AI/agenta, api/oss/src/apis/fastapi/otlp",
        fields={"api_key": _secret("API key."), "base_url": _url("https://cloud.agenta.ai")},
        path="/api/otlp/v1/traces",
        headers={"Authorization": "ApiKey {api_key}"},
        account=("api_key",),
        convention="agenta",
    ),
    "honeyhive": OtlpVendor(
        title="HoneyHive",
        about="HoneyHive. A session becomes a UUID of its text.",
        source="docs.honeyhive.ai (SDK honeyhive)",
        fields={
            "api_key": _secret("API key."),
            "project": _text("Project.", None),
            "source": _text("Environment of the events.", None),
            "base_url": _url("https://api.dp1.us.honeyhive.ai"),
        },
        path="/opentelemetry/v1/traces",
        headers={"Authorization": "Bearer {api_key}"},
        resource={"honeyhive.project": "{project}", "honeyhive.source": "{source}"},
        account=("api_key", "project", "source"),
        convention="honeyhive",
        accepted=("json", "protobuf"),
    ),
    "galileo": OtlpVendor(
        title="Galileo",
        about="Galileo, cloud or your own server.",
        source="docs.galileo.ai (SDK galileo)",
        fields={
            "api_key": _secret("API key."),
            "project": _text("Project."),
            "log_stream": _text("Log stream.", "default"),
            "base_url": _url("https://api.galileo.ai"),
        },
        path="/otel/traces",
        headers={"Galileo-API-Key": "{api_key}", "project": "{project}", "logstream": "{log_stream}"},
        resource={"galileo.project.name": "{project}", "galileo.logstream.name": "{log_stream}"},
        account=("api_key", "project", "log_stream"),
        convention="gen_ai_wide",
    ),
    "fiddler": OtlpVendor(
        title="Fiddler",
        about="Fiddler.",
        source="docs.fiddler.ai (SDK fiddler-otel)",
        fields={
            "base_url": _url(about="`https://INSTANCE.fiddler.ai`."),
            "api_key": _secret("API key."),
            "application_id": _text("Application id, a UUID."),
        },
        headers={"authorization": "Bearer {api_key}", "fiddler-application-id": "{application_id}"},
        resource={"application.id": "{application_id}"},
        account=("application_id",),
        convention="fiddler",
    ),
    "respan": OtlpVendor(
        title="Respan",
        about="Respan, formerly Keywords AI.",
        source="docs.respan.ai (SDK respan-tracing 2.24)",
        fields={"api_key": _secret("API key."), "base_url": _url("https://api.respan.ai")},
        path="/api/v2/traces",
        headers={"Authorization": "Bearer {api_key}"},
        account=("api_key",),
        convention="respan",
        accepted=("json",),
    ),
    "logfire": OtlpVendor(
        title="Logfire",
        about="Pydantic Logfire, US or EU.",
        source="logfire.pydantic.dev/docs/how-to-guides/alternative-clients",
        fields={
            "token": _secret("Write token of the project."),
            "region": _region("us", "eu"),
            "base_url": _url(None, _OWN_SERVER),
        },
        headers={"Authorization": "Bearer {token}"},
        account=("token",),
        convention="logfire",
        derive=_host("https://logfire-{region}.pydantic.dev"),
    ),
    "coralogix": OtlpVendor(
        title="Coralogix",
        about="Coralogix.",
        source="coralogix.com/docs/user-guides/ai/otel-integration/span-attributes",
        fields={
            "api_key": _secret("Send-Your-Data API key."),
            "application": _text("Application name."),
            "subsystem": _text("Subsystem name."),
            "region": _region("us1", "us2", "eu1", "eu2", "ap1", "ap2", "ap3"),
            "base_url": _url(None, _OWN_SERVER),
        },
        headers={"Authorization": "Bearer {api_key}"},
        resource={"cx.application.name": "{application}", "cx.subsystem.name": "{subsystem}"},
        account=("api_key", "application", "subsystem"),
        convention="coralogix",
        derive=_host("https://ingress.{region}.coralogix.com"),
    ),
    "splunk": OtlpVendor(
        title="Splunk Observability Cloud",
        about="Splunk Observability Cloud.",
        source="help.splunk.com (OTLP ingest of traces)",
        fields={
            "access_token": _secret("Access token of the organization, for ingest."),
            "realm": _text("Realm of the organization.", "us1"),
            "base_url": _url(None, _OWN_SERVER),
        },
        path="/v2/trace/otlp",
        headers={"X-SF-Token": "{access_token}"},
        account=("access_token",),
        convention="gen_ai_wide",
        accepted=("protobuf",),
        derive=_host("https://ingest.{realm}.observability.splunkcloud.com"),
        proof="users",
    ),
    "lightstep": OtlpVendor(
        title="Lightstep",
        about="ServiceNow Cloud Observability, formerly Lightstep.",
        source="public configurations of users",
        proof="users",
        fields={"access_token": _secret("Access token."), "base_url": _url("https://ingest.lightstep.com")},
        path="/traces/otlp/v0.9",
        headers={"lightstep-access-token": "{access_token}"},
        account=("access_token",),
        convention="gen_ai_wide",
    ),
    "raindrop": OtlpVendor(
        title="Raindrop",
        about="Raindrop.",
        source="raindrop.ai/docs/sdk/opentelemetry",
        fields={
            "write_key": _secret("Write key."),
            "project": _text("Slug of the project.", None),
            "base_url": _url("https://api.raindrop.ai"),
        },
        headers={"Authorization": "Bearer {write_key}", "X-Raindrop-Project-Id": "{project}"},
        account=("write_key", "project"),
        convention="raindrop",
        accepted=("protobuf",),
    ),
    "evidently": OtlpVendor(
        title="Evidently",
        about="A tracing dataset of Evidently, on your own server; for its cloud, `headers_from` returns the JWT.",
        source="docs.evidentlyai.com (server evidently 0.7.23)",
        fields={
            "dataset_id": _text("Id of the tracing dataset; without it the server answers 500."),
            "project_id": _text("Id of the project."),
            "secret": _secret("Secret of the server, if it has one.", default=None),
            "base_url": _url("http://localhost:8000"),
        },
        proof="server",
        # Its server answers 500 to a compressed body.
        compresses=False,
        path="/api/v1/traces",
        headers={"evidently-secret": "{secret}"},
        resource={"evidently.export_id": "{dataset_id}", "evidently.project_id": "{project_id}"},
        account=("dataset_id", "project_id"),
        convention="evidently",
        accepted=("protobuf",),
    ),
    "helicone": OtlpVendor(
        title="Helicone",
        about="Helicone: each span is a request.",
        source="github.com/Helicone/helicone, valhalla/jawn/src/managers/traceManager.ts",
        fields={
            "api_key": _secret("API key."),
            "base_url": _url("https://api.helicone.ai", "Base URL; `https://eu.api.helicone.ai` for the EU."),
        },
        path="/v1/trace/log",
        headers={"Authorization": "Bearer {api_key}"},
        account=("api_key",),
        convention="helicone",
        accepted=("json",),
    ),
    "maxim": OtlpVendor(
        title="Maxim",
        about="Maxim AI.",
        source="public configurations of users",
        proof="users",
        fields={
            "api_key": _secret("API key."),
            "repo_id": _text("Id of the log repository."),
            "base_url": _url("https://api.getmaxim.ai"),
        },
        path="/v1/otel",
        headers={"x-maxim-repo-id": "{repo_id}", "x-maxim-api-key": "{api_key}"},
        account=("repo_id",),
        convention="gen_ai_wide",
    ),
    "fallom": OtlpVendor(
        title="Fallom",
        about="Fallom, which takes the spans of OpenRouter Broadcast.",
        source="public configurations of users",
        proof="users",
        fields={"api_key": _secret("API key."), "base_url": _url("https://broadcast.fallom.com")},
        headers={"Authorization": "Bearer {api_key}"},
        account=("api_key",),
        convention="openrouter",
    ),
    "google-cloud-trace": OtlpVendor(
        title="Google Cloud Trace",
        about="Google Cloud Trace, with the credentials that google-auth finds.",
        source="docs.cloud.google.com/stackdriver/docs/reference/telemetry/v1.traces.post",
        fields={"project": _text("Project id."), "base_url": _url("https://telemetry.googleapis.com")},
        resource={"gcp.project_id": "{project}"},
        account=("project",),
        convention="gen_ai_wide",
        auth="google",
    ),
    "azure-monitor": OtlpVendor(
        title="Azure Monitor",
        about="Application Insights by a data collection rule, with the credentials that azure-identity finds.",
        source="learn.microsoft.com (OpenTelemetry protocol ingestion in Azure Monitor)",
        fields={
            "base_url": _url(about="Data collection endpoint, `https://NAME.REGION-1.ingest.monitor.azure.com`."),
            "rule_id": _text("Immutable id of the data collection rule, `dcr-…`."),
        },
        path="/dataCollectionRules/{rule_id}/streams/Microsoft-OTLP-Traces/otlp/v1/traces",
        account=("rule_id",),
        convention="gen_ai_wide",
        accepted=("protobuf",),
        auth="azure",
        proof="users",
    ),
    "xray": OtlpVendor(
        title="AWS X-Ray",
        about="AWS X-Ray and CloudWatch (Transaction Search), with a key or the credentials that botocore finds.",
        source="docs.aws.amazon.com (CloudWatch OTLP endpoints)",
        fields={
            "region": _text("Region.", "us-east-1"),
            "api_key": _secret("X-Ray API key of an IAM user.", default=None),
            "base_url": _url(None, _OWN_SERVER),
        },
        headers={"Authorization": "Bearer {api_key}"},
        account=("api_key",),
        convention="gen_ai_wide",
        derive=_host("https://xray.{region}.amazonaws.com"),
        auth="aws",
    ),
    "weave-agents": OtlpVendor(
        title="W&B Weave Agents",
        about="The Agents pages of Weights & Biases Weave, which read the GenAI conventions.",
        source="github.com/wandb/weave, trace_server/agents (weave 0.54)",
        fields={
            "api_key": _secret("API key."),
            "entity": _text("Team or user name."),
            "project": _text("Project."),
            "base_url": _url("https://trace.wandb.ai"),
        },
        path="/agents/otel/v1/traces",
        basic="api:{api_key}",
        headers={"wandb-api-key": "{api_key}", "project_id": "{entity}/{project}"},
        resource={"wandb.entity": "{entity}", "wandb.project": "{project}"},
        account=("entity", "project"),
        convention="gen_ai_wide",
        accepted=("protobuf",),
    ),
}


def target(row: OtlpVendor, config: BaseModel) -> Target:
    """Return the request target of ``row`` with the values of ``config``."""
    values = _values(row, config)
    headers = _fill(row.headers, values)
    if row.basic:
        credentials = row.basic.format_map(values).encode()
        headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
    account = {name: values.get(name) for name in row.account}
    secret = {name for name in account if isinstance(getattr(config, name, None), SecretStr)}
    return Target(
        signal_url(row.base.format_map(values), row.path.format_map(values)),
        headers,
        _fill(row.resource, values),
        account={name: value for name, value in account.items() if name not in secret},
        credentials={name: value for name, value in account.items() if name in secret},
    )


def signal_url(base: str, path: str = TRACES) -> str:
    """Return ``base`` with the missing part of ``path`` appended.

    Base URLs and partial or complete URLs give the same result, with or without a final slash:
    ``https://h``, ``https://h/otlp/``, ``https://h/otlp/v1/traces`` for ``/otlp/v1/traces``.
    """
    parts = urlsplit(base)
    existing, expected = _segments(parts.path), _segments(path)
    if existing[-len(_segments(TRACES)) :] != _segments(TRACES):
        shared = max(size for size in range(len(expected) + 1) if existing[len(existing) - size :] == expected[:size])
        existing = [*existing, *expected[shared:]]
    return urlunsplit(parts._replace(path="/" + "/".join(existing)))


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def _values(row: OtlpVendor, config: BaseModel) -> dict[str, str]:
    values: dict[str, str] = {}
    for name in row.fields:
        value: Any = getattr(config, name)
        if value is not None:
            values[name] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if row.derive is not None:
        values |= row.derive(values)
    return values


def _fill(templates: Mapping[str, str], values: Values) -> dict[str, str]:
    return {
        name: template.format_map(values)
        for name, template in templates.items()
        if all(field_name in values for _, field_name, _, _ in string.Formatter().parse(template) if field_name)
    }
