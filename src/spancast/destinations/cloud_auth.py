"""Credentials of the clouds, whose tokens expire: their own libraries find them (environment, files, the machine).

Google and Azure give a token, which is renewed after HTTP 401. AWS signs each request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from spancast.destinations.optional_imports import required
from spancast.errors import ConfigError

Auth: TypeAlias = Literal["google", "azure", "aws"]
HeadersFrom: TypeAlias = Callable[[], Mapping[str, str]]
Signer: TypeAlias = Callable[[str, str, Mapping[str, str], bytes], Mapping[str, str]]
"""Returns the headers to send for (method, URL, headers, body)."""

_GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_AZURE_SCOPE: Final = "https://monitor.azure.com/.default"
_DEFAULT_REGION: Final = "us-east-1"


def headers_of(auth: Auth | None) -> HeadersFrom | None:
    """Return the function that gets the headers of a token; None if ``auth`` needs none.

    Raises:
        ConfigError: The cloud's library is not installed.
    """
    return google_headers("google") if auth == "google" else _azure() if auth == "azure" else None


def signer_of(auth: Auth | None, url: str) -> Signer | None:
    """Return the function that signs requests to ``url``; None if ``auth`` signs nothing.

    Raises:
        ConfigError: botocore is not installed.
    """
    return _aws(url) if auth == "aws" else None


def google_headers(extra: str, service_account: Mapping[str, Any] | None = None) -> HeadersFrom:
    """Return the function that gets a token of ``service_account``, else of the credentials that google-auth finds.

    Raises:
        ConfigError: google-auth is not installed, or the key of the service account is invalid.
    """
    library, transport = required("google.auth", extra), required("google.auth.transport.urllib3", extra)
    pools = required("urllib3", extra)
    known: list[Any] = []
    if service_account is not None:
        accounts = required("google.oauth2.service_account", extra)
        try:
            found = accounts.Credentials.from_service_account_info(service_account, scopes=[_GOOGLE_SCOPE])
        except ValueError:
            raise ConfigError("service_account_key: the private key is invalid") from None
        known.append(found)

    def headers() -> Mapping[str, str]:
        if not known:
            known.append(library.default(scopes=[_GOOGLE_SCOPE])[0])
        [credentials] = known
        credentials.refresh(transport.Request(pools.PoolManager()))
        given = {"Authorization": f"Bearer {credentials.token}"}
        # The credentials of a user, not those of a service account, need a project that pays.
        project = getattr(credentials, "quota_project_id", None)
        return {**given, "x-goog-user-project": project} if project else given

    return headers


def _azure() -> HeadersFrom:
    library = required("azure.identity", "azure")
    known: list[Any] = []

    def headers() -> Mapping[str, str]:
        if not known:
            known.append(library.DefaultAzureCredential())
        return {"Authorization": f"Bearer {known[0].get_token(_AZURE_SCOPE).token}"}

    return headers


def _aws(url: str) -> Signer:
    auth, request_type = required("botocore.auth", "aws"), required("botocore.awsrequest", "aws")
    session = required("botocore.session", "aws").get_session()
    # https://xray.eu-west-1.amazonaws.com: the service and the region.
    service, _, rest = (urlsplit(url).hostname or "").partition(".")
    region = rest.partition(".")[0] if rest.endswith((".amazonaws.com", ".amazonaws.com.cn")) else None

    def sign(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        credentials = session.get_credentials()
        if credentials is None:
            raise LookupError("botocore found no AWS credentials")
        request = request_type.AWSRequest(method, target, data=body, headers=dict(headers))
        signing_region = region or session.get_config_variable("region") or _DEFAULT_REGION
        auth.SigV4Auth(credentials.get_frozen_credentials(), service, signing_region).add_auth(request)
        return dict(request.headers.items())

    return sign
