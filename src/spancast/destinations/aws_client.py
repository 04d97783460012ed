"""Clients of Amazon's services by boto3: credentials, roles, transport, and the outcome of a call.

boto3 is imported when a destination is created.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import Field, SecretStr, model_validator

from spancast.destinations.config import NetworkConfig, OwnFormatConfig, field_error
from spancast.destinations.field_types import Address, Secret, Text, redacted_url
from spancast.destinations.optional_imports import required
from spancast.destinations.protocol import Rejected, Retry
from spancast.destinations.status_codes import TOO_LARGE, is_retryable

_UNREADABLE: Final = (ValueError, AttributeError, LookupError, RecursionError, TypeError)
"""What botocore's parsers raise for an answer of another form."""
_ANY_REGION: Final = "us-east-1"
"""A region for servers other than Amazon's, which have no regions."""
_ROLE_SESSION: Final = "spancast"
_TEMPORARY: Final = frozenset({
    "SlowDown", "InternalError", "InternalFailure", "ServiceUnavailable", "ServiceUnavailableException",
    "RequestTimeout", "RequestTimeTooSkewed", "Throttling", "ThrottlingException", "LimitExceededException",
})  # fmt: skip
_CREDENTIALS: Final = frozenset({
    "AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId",
    "InvalidClientTokenId", "InvalidSignatureException", "InvalidToken", "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch", "UnrecognizedClientException",
})  # fmt: skip
"""Some services send them with HTTP 400. They may be corrected, so spans stay queued."""


class AwsConfig(NetworkConfig, OwnFormatConfig, frozen=True):
    """The credentials of a service of Amazon."""

    access_key_id: Text | None = Field(
        None, description="Access key id; default: from boto3 (environment, profile, role)."
    )
    secret_access_key: Secret | None = Field(None, description="Secret of `access_key_id`.")
    session_token: Secret | None = Field(None, description="Session token of temporary credentials.")
    region: Text | None = Field(None, description="Region; default: from boto3.")
    endpoint: Address | None = Field(None, description="URL of a server other than Amazon's.")
    auth_mode: Literal["access_keys", "iam_role"] | None = Field(
        None, description="Credentials; default: `iam_role` if `role_arn` is given."
    )
    role_arn: Text | None = Field(None, description="Role that is assumed with the credentials above, by STS.")
    external_id: Text | None = Field(None, description="External id that the role requires.")

    @model_validator(mode="after")
    def _check_role(self) -> AwsConfig:
        if self.auth_mode == "iam_role" and self.role_arn is None:
            raise field_error(("role_arn",), None, "is missing; `auth_mode: iam_role` needs it")
        if self.auth_mode == "access_keys" and self.role_arn is not None:
            raise field_error(("role_arn",), self.role_arn, "has no effect with `auth_mode: access_keys`")
        if self.external_id is not None and self.role_arn is None:
            raise field_error(("role_arn",), None, "is missing; `external_id` needs it")
        return self

    @model_validator(mode="after")
    def _check_keys(self) -> AwsConfig:
        pair = ("access_key_id", "secret_access_key")
        given = [name for name in (*pair, "session_token") if getattr(self, name) is not None]
        for name in pair:
            if given and name not in given:
                raise field_error((name,), None, f"is missing; `{given[0]}` needs it")
        return self


def client_of(service: str, config: AwsConfig, server: str | None, extra: str) -> Any:  # noqa: ANN401 - boto3 has no types
    """Return the client of ``service`` at ``server`` (None: Amazon's).

    Raises:
        ConfigError: boto3 is not installed.
    """
    boto3, botocore = required("boto3", extra), required("botocore.config", extra)
    options = botocore.Config(
        connect_timeout=config.timeout,
        read_timeout=config.timeout,
        # The delivery worker retries, by the same rules for every destination.
        retries={"total_max_attempts": 1},
        proxies={"http": config.proxy, "https": config.proxy} if config.proxy else None,
        client_cert=_certificate(config),
        s3={"addressing_style": "path"} if server else None,
    )
    shared: dict[str, Any] = {
        "region_name": config.region or (_ANY_REGION if server else None),
        "verify": str(config.ca_file) if config.ca_file else config.verify,
        "config": options,
    }
    keys: dict[str, Any] = {
        "aws_access_key_id": config.access_key_id,
        "aws_secret_access_key": _reveal(config.secret_access_key),
        "aws_session_token": _reveal(config.session_token),
    }
    session = boto3.session.Session()
    if config.role_arn and config.auth_mode != "access_keys":
        core = required("botocore.session", extra).get_session()
        provider = _role_provider(config, session.client("sts", **keys, **shared), extra)
        core.get_component("credential_provider").insert_before("env", provider)
        session, keys = boto3.session.Session(botocore_session=core), {}
    client = session.client(service, endpoint_url=server, **keys, **shared)

    def add_headers(request: Any, **_: object) -> None:  # noqa: ANN401 - boto3 has no types
        for header, value in config.all_headers().items():
            request.headers[header] = value

    client.meta.events.register(f"before-sign.{service}", add_headers)
    return client


def call(act: Callable[[], Any], product: str, what: str, server: str | None) -> tuple[Any, Retry | Rejected | None]:
    """Return the answer of ``act``, or the outcome of its failure; ``what`` names the object in its reason."""
    errors, parsers = required("botocore.exceptions", "aws"), required("botocore.parsers", "aws")
    place = redacted_url(server) if server else "Amazon"
    try:
        answer = act()
    except errors.ClientError as error:
        return None, _outcome(error.response, product, what)
    except (errors.BotoCoreError, parsers.ResponseParserError, *_UNREADABLE) as error:
        return None, Retry(f"{product}: {type(error).__name__} at {place}")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", HTTPStatus.OK)
    # botocore takes any status below 300 for a success.
    return (answer, None) if status >= HTTPStatus.OK else (None, Retry(f"{product}: HTTP {status} at {place}"))


def _outcome(response: Any, product: str, what: str) -> Retry | Rejected:  # noqa: ANN401 - boto3 has no types
    code = str(response.get("Error", {}).get("Code", "unknown"))
    metadata = response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    reason = f"{product}: {code} (HTTP {status}) {what}"
    if code in _TEMPORARY or code in _CREDENTIALS or is_retryable(status):
        retry_after = metadata.get("HTTPHeaders", {}).get("retry-after", "")
        return Retry(reason, float(retry_after) if retry_after.isdecimal() else None)
    return Rejected(reason, too_large=code == "EntityTooLarge" or status == TOO_LARGE)


def _role_provider(config: AwsConfig, sts: Any, extra: str) -> Any:  # noqa: ANN401 - boto3 has no types
    """Return a provider of the credentials of ``role_arn``, which botocore renews before they expire."""
    library = required("botocore.credentials", extra)
    request = {"RoleArn": config.role_arn, "RoleSessionName": _ROLE_SESSION, "ExternalId": config.external_id}

    def assume() -> dict[str, str]:
        given = sts.assume_role(**{name: value for name, value in request.items() if value})["Credentials"]
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }

    class Role(library.CredentialProvider):
        METHOD = CANONICAL_NAME = "spancast-role"

        def load(self) -> Any:  # noqa: ANN401
            return library.DeferredRefreshableCredentials(assume, self.METHOD)

    return Role()


def _certificate(config: AwsConfig) -> str | tuple[str, str] | None:
    if config.cert_file is None:
        return None
    return (str(config.cert_file), str(config.key_file)) if config.key_file else str(config.cert_file)


def _reveal(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
