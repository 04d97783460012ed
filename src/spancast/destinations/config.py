"""Configuration models common to all destinations: filters and redaction, then transport.

Names and defaults are those of OpenRouter's observability destinations; its camelCase names are
accepted, too. Secrets are ``SecretStr``: never in a repr, a message or a dump.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from spancast.destinations.config_model import ConfigModel
from spancast.destinations.field_types import (
    HEADER_NAME,
    Address,
    Amount,
    ByteSize,
    Duration,
    Pattern,
    Secret,
    Text,
    parse_address,
    reject_boolean,
    usable_path,
)
from spancast.destinations.place import Facts, Place, absolute, plain_url, program, secrets_of
from spancast.encoding.conventions.registry import CONVENTIONS
from spancast.encoding.safe_regex import pattern_fault

MIN_SAMPLING_RATE: Final = 0.0001
API_KEYS_ALIASES: Final = ("api_keys", "apiKeys", "api_key_hashes", "apiKeyHashes")

FilterField = Literal[
    "model", "provider", "session_id", "user_id", "api_key_name", "finish_reason", "input", "output",
    "total_cost", "total_tokens", "prompt_tokens", "completion_tokens",
]  # fmt: skip
FilterOperator = Literal[
    "equals", "not_equals", "contains", "not_contains", "regex", "starts_with", "ends_with",
    "gt", "lt", "gte", "lte", "exists", "not_exists",
]  # fmt: skip
TRACE_ID: Final = "{trace_id}"
_NUMERIC: Final = frozenset({"gt", "lt", "gte", "lte"})
_VALUELESS: Final = frozenset({"exists", "not_exists"})

_FUNCTION_RULE: Final = "be a function, written `module:function`"
_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(reject_boolean)]


def field_error(path: tuple[str, ...], given: object, message: str) -> ValidationError:
    """Return a validation error for the field at ``path``, relative to the model that raises it."""
    kind = PydanticCustomError("spancast", "{message}", {"message": message})
    details = InitErrorDetails(type=kind, loc=path, input=given)
    return ValidationError.from_exception_data("spancast", [details], hide_input=True)


def _is_number(value: str | float) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def resolve_function(given: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return ``given`` if it is a function, or the function that it names as ``module:function``.

    Raises:
        ValueError: The form is invalid, the module cannot be imported, or the name is not a function in it.
    """
    if not isinstance(given, str):
        if callable(given):
            return given
        raise ValueError(f"must {_FUNCTION_RULE}")
    if not _FUNCTION.fullmatch(given):
        raise ValueError(f"must {_FUNCTION_RULE}")
    module, _, path = given.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"must {_FUNCTION_RULE}: {type(error).__name__} for {given}") from None
    if not callable(found):
        raise ValueError(f"must {_FUNCTION_RULE}: {given} is {type(found).__name__}")  # noqa: TRY004
    return found


def _function_name(function: Callable[..., Any]) -> str:
    owner: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(owner, '__module__', 'builtins')}:{owner.__qualname__}"


def _defined_at(function: Callable[..., Any]) -> str:
    name = _function_name(function)
    # Every program has a module of this name.
    return f"{program()}:{name}" if name.startswith("__main__:") else name


NamedFunction = Annotated[
    Callable[..., Any],
    BeforeValidator(resolve_function),
    PlainSerializer(_function_name, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_FUNCTION.pattern}$"}),
]
"""A function, written ``module:function`` in a file."""


def _text_or_number(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int, float))):
        raise ValueError("must be a text or a number")
    return value


FilterValue = Annotated[str | int | float, BeforeValidator(_text_or_number)]


class FilterRule(ConfigModel, frozen=True):
    """A comparison of a span field with a value."""

    field: FilterField = Field(
        description="The field compared; `input` and `output` are JSON text, before privacy mode."
    )
    operator: FilterOperator = Field(
        description="`exists`: present and not empty. Negations are true for a missing field."
    )
    value: FilterValue | None = Field(
        None, description="The value compared with; `regex` matches anywhere in the field."
    )

    @model_validator(mode="after")
    def _check_value(self) -> FilterRule:
        if self.operator in _VALUELESS:
            return self
        if self.value is None:
            raise field_error(("value",), None, f"is missing; `{self.operator}` needs it")
        if self.operator in _NUMERIC and not _is_number(self.value):
            raise field_error(("value",), self.value, f"must be a number, as `{self.operator}` compares numbers")
        if self.operator == "regex" and (fault := pattern_fault(str(self.value))):
            raise field_error(("value",), self.value, fault)
        return self


class FilterGroup(ConfigModel, frozen=True):
    """Rules combined by ``logic``."""

    logic: Literal["and", "or"] = Field("and", description="Operator that combines the rules of this group.")
    rules: tuple[FilterRule, ...] = Field(description="The rules; an empty list matches every span.")


class FilterRules(ConfigModel, frozen=True):
    """A filter of spans: a span passes if at least one group matches it."""

    enabled: bool = Field(default=True, description="False: pass every span.")
    groups: tuple[FilterGroup, ...] = Field((), description="Groups combined by `or`; an empty list passes every span.")


class Mask(ConfigModel, frozen=True):
    """A replacement in every string of a span before it leaves the process."""

    pattern: Pattern | None = Field(None, description="A regular expression.")
    replacement: str = Field("[masked]", description="Replacement of each match.")
    function: NamedFunction | None = Field(
        None, description="`module:function` that gets a string and returns the string to send."
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:  # noqa: ANN401
        if isinstance(given, str):
            return {"pattern": given}
        return {"function": given} if callable(given) and not isinstance(given, Mask) else given

    @model_validator(mode="after")
    def _check_one_of_two(self) -> Mask:
        if (self.pattern is None) == (self.function is None):
            raise ValueError("needs either `pattern` or `function`")
        return self


def _allow_pattern(schema: dict[str, Any]) -> None:
    schema["items"] = {"anyOf": [{"type": "string"}, schema["items"]]}


def _check_convention(name: str) -> str:
    if name not in CONVENTIONS:
        raise ValueError(f"must be one of {', '.join(CONVENTIONS)}")
    return name


def _check_header(name: str) -> str:
    if not HEADER_NAME.fullmatch(name):
        raise ValueError("must be the name of an HTTP header")
    return name


def _check_file(path: Path) -> Path:
    path = usable_path(path)
    if not path.is_file():
        raise ValueError("must name a file that exists")
    return path


def _check_trace_url(url: str) -> str:
    if TRACE_ID not in url:
        raise ValueError(f"must be a URL that contains {TRACE_ID}")
    parse_address(url.replace(TRACE_ID, "0"))
    return url


ConventionName = Annotated[str, AfterValidator(_check_convention), WithJsonSchema({"enum": sorted(CONVENTIONS)})]
TraceUrl = Annotated[str, AfterValidator(_check_trace_url)]
HeaderName = Annotated[str, AfterValidator(_check_header)]
ExistingFile = Annotated[Path, AfterValidator(_check_file)]


class DestinationConfig(ConfigModel, frozen=True):
    """The filters and redaction of one destination."""

    type: str = Field(description="The destination type.")
    enabled: bool = Field(default=True, description="False: nothing is sent or queued for it.")
    privacy_mode: bool = Field(
        default=False,
        description="Send only fields known not to be content: no messages, tools, error texts or unknown fields.",
    )
    sampling_rate: Number = Field(
        1.0,
        ge=MIN_SAMPLING_RATE,
        le=1,
        description="Share of sessions (or traces without session) sent; the same decision in every process.",
    )
    api_keys: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        validation_alias=AliasChoices(*API_KEYS_ALIASES),
        description="Names or hashes of the API keys whose calls are sent; default: all.",
    )
    exclude_api_keys: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        description="Names or hashes of the API keys whose calls are not sent, even if `api_keys` has them.",
    )
    filter_rules: FilterRules | None = Field(None, description="Filter of the spans sent; default: all.")
    respect_parent_sampling: bool = Field(default=False, description="Send only spans whose parent was sampled.")
    spans: Literal["genai", "all"] = Field("genai", description="GenAI spans and group spans only, or complete traces.")
    always_keep_errors: bool = Field(default=False, description="Send failed calls regardless of the sampling rate.")
    always_keep_cost_above: Amount | None = Field(
        None, description="Send calls with a higher cost (USD) regardless of the sampling rate."
    )
    mask: tuple[Mask, ...] = Field(
        (), description="Patterns and functions that replace text in every string.", json_schema_extra=_allow_pattern
    )
    max_attribute_bytes: ByteSize | None = Field(None, description="Longer values are truncated and stay valid JSON.")
    max_span_bytes: ByteSize | None = Field(None, description="Larger spans are truncated.")
    convention: ConventionName | None = Field(
        None,
        description="Attribute convention; default: that of the destination type. Not for a format of its own.",
    )
    trace_url: TraceUrl | None = Field(
        None,
        description="Address of a trace in the product's own page, with `{trace_id}`, for links of `spancast ui`.",
    )

    @property
    def has_own_format(self) -> bool:
        """Return whether it reads the canonical span, and a ``convention`` would remove what it reads."""
        return False

    @model_validator(mode="after")
    def _check_convention_is_used(self) -> DestinationConfig:
        if self.convention is not None and self.has_own_format:
            raise field_error(("convention",), self.convention, "has no effect: this type has a format of its own")
        return self

    @property
    def selects_calls(self) -> bool:
        """Return whether a key or a filter rule may leave out single calls of a trace."""
        rules = self.filter_rules
        has_rules = bool(rules and rules.enabled and rules.groups and all(group.rules for group in rules.groups))
        return has_rules or bool(self.api_keys or self.exclude_api_keys)

    def place(self) -> Place:
        """Return the address and the account of this destination; secrets are hashed."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Return a hash that is equal for destinations of the same type, address and account."""
        return self.place().fingerprint(self.type)


class OwnFormatConfig(DestinationConfig, frozen=True):
    """A destination with a format of its own, made of the canonical span."""

    @property
    def has_own_format(self) -> bool:
        """Return True."""
        return True


class NetworkConfig(DestinationConfig, frozen=True):
    """The transport of a destination over HTTP or gRPC."""

    headers: dict[HeaderName, Secret] = Field(default_factory=dict[str, Secret], description="Additional headers.")
    headers_from: NamedFunction | None = Field(
        None, description="Function that returns additional headers; called again after HTTP 401."
    )
    timeout: Duration = Field(10.0, description="Time limit of one delivery.")
    ca_file: ExistingFile | None = Field(
        None, description="PEM file of trusted certificate authorities, instead of the default ones."
    )
    cert_file: ExistingFile | None = Field(None, description="PEM file of the client certificate.")
    key_file: ExistingFile | None = Field(None, description="PEM file of the client certificate's key.")
    verify: bool = Field(default=True, description="False: accept any certificate. For tests only.")
    proxy: Address | None = Field(None, description="Proxy of this destination; default: HTTPS_PROXY.")

    @model_validator(mode="after")
    def _check_key_has_certificate(self) -> NetworkConfig:
        if self.key_file is not None and self.cert_file is None:
            raise field_error(("cert_file",), None, "is missing; `key_file` needs it")
        return self

    def network_place(self, url: str, account: Facts | None = None, credentials: Facts | None = None) -> Place:
        """Return the place at ``url``, with account data from the fields of this class.

        All headers count, because a header may be a tenant or a key. Use ``headers_from`` for a token that changes.
        """
        return Place(
            address={"url": plain_url(url)},
            account={
                **(account or {}),
                "cert_file": absolute(self.cert_file) if self.cert_file else None,
                "headers_from": _defined_at(self.headers_from) if self.headers_from else None,
            },
            credentials={
                **(credentials or {}),
                **secrets_of(url),
                **{f"{name.lower()}:": value.get_secret_value() for name, value in self.headers.items()},
            },
        )

    def all_headers(self) -> dict[str, str]:
        """Return ``headers`` and those of ``headers_from`` with secrets in clear text, for the request only."""
        configured = {name: value.get_secret_value() for name, value in self.headers.items()}
        return {**configured, **self.headers_from()} if self.headers_from else configured
