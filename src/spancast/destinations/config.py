"""What every destination can be told, whatever its type: rules first, then transport.

Names and defaults are those of OpenRouter's observability destinations; its camelCase is
read too. Secrets are ``SecretStr``: never in a repr, a message or a dump.
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
from spancast.destinations.field_types import Address, ByteSize, Duration, Secret, Text, usable_path
from spancast.destinations.place import Facts, Place, absolute, plain_url, program, secrets_of
from spancast.encoding.conventions.registry import CONVENTIONS
from spancast.encoding.safe_regex import pattern_fault

MIN_SAMPLING_RATE: Final = 0.0001
FIRST_API_KEYS: Final = ("api_keys", "apiKeys", "api_key_hashes", "apiKeyHashes")

FilterField = Literal[
    "model", "provider", "session_id", "user_id", "api_key_name", "finish_reason", "input", "output",
    "total_cost", "total_tokens", "prompt_tokens", "completion_tokens",
]  # fmt: skip
FilterOperator = Literal[
    "equals", "not_equals", "contains", "not_contains", "regex", "starts_with", "ends_with",
    "gt", "lt", "gte", "lte", "exists", "not_exists",
]  # fmt: skip
_NUMERIC: Final = frozenset({"gt", "lt", "gte", "lte"})
_VALUELESS: Final = frozenset({"exists", "not_exists"})

_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FUNCTION_FORM: Final = "be a function, written `module:function`"
_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


def _no_boolean(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reads ValueError
    return value


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_boolean)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_no_boolean)]


def failure(path: tuple[str, ...], given: object, message: str) -> ValidationError:
    """Return an error about the field at ``path`` below the model that raises it."""
    kind = PydanticCustomError("spancast", "{message}", {"message": message})
    details = InitErrorDetails(type=kind, loc=path, input=given)
    return ValidationError.from_exception_data("spancast", [details], hide_input=True)


def _is_regex(pattern: str) -> str:
    if fault := pattern_fault(pattern):
        raise ValueError(fault)
    return pattern


def _is_number(value: str | float) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def function_given(given: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return the function that ``given`` is, or that it names as ``module:function``.

    Raises:
        ValueError: The form is another, the module cannot be imported, or the name is no function of it.
    """
    if not isinstance(given, str):
        if callable(given):
            return given
        raise ValueError(f"must {_FUNCTION_FORM}")
    if not _FUNCTION.fullmatch(given):
        raise ValueError(f"must {_FUNCTION_FORM}")
    module, _, path = given.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"must {_FUNCTION_FORM}: {type(error).__name__} for {given}") from None
    if not callable(found):
        raise ValueError(f"must {_FUNCTION_FORM}: {given} is {type(found).__name__}")  # noqa: TRY004
    return found


def _function_name(function: Callable[..., Any]) -> str:
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', 'builtins')}:{named.__qualname__}"


def _defined_at(function: Callable[..., Any]) -> str:
    name = _function_name(function)
    # Every program has a module of that name.
    return f"{program()}:{name}" if name.startswith("__main__:") else name


NamedFunction = Annotated[
    Callable[..., Any],
    BeforeValidator(function_given),
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
    """One comparison of a fact of the span with a value."""

    field: FilterField = Field(description="The fact compared; `input` and `output` as JSON text, before privacy mode.")
    operator: FilterOperator = Field(description="`exists`: there and not empty. Negations are true of a missing fact.")
    value: FilterValue | None = Field(None, description="What it is compared with; `regex` searches anywhere.")

    @model_validator(mode="after")
    def _value_fits(self) -> FilterRule:
        if self.operator in _VALUELESS:
            return self
        if self.value is None:
            raise failure(("value",), None, f"is missing; `{self.operator}` needs it")
        if self.operator in _NUMERIC and not _is_number(self.value):
            raise failure(("value",), self.value, f"must be a number, as `{self.operator}` compares numbers")
        if self.operator == "regex" and (fault := pattern_fault(str(self.value))):
            raise failure(("value",), self.value, fault)
        return self


class FilterGroup(ConfigModel, frozen=True):
    """Rules joined by ``logic``."""

    logic: Literal["and", "or"] = Field("and", description="How the rules of this group are joined.")
    rules: tuple[FilterRule, ...] = Field(description="None: the group takes every span.")


class FilterRules(ConfigModel, frozen=True):
    """Which spans a destination takes: those that some group takes."""

    enabled: bool = Field(default=True, description="False: take every span.")
    groups: tuple[FilterGroup, ...] = Field((), description="Joined by `or`; none: take every span.")


class Mask(ConfigModel, frozen=True):
    """What is taken out of every text of a span before it leaves."""

    pattern: Annotated[str, AfterValidator(_is_regex)] | None = Field(None, description="A regular expression.")
    replacement: str = Field("[masked]", description="What stands in its place.")
    function: NamedFunction | None = Field(None, description="`module:function` of one text, returning what to send.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:  # noqa: ANN401
        if isinstance(given, str):
            return {"pattern": given}
        return {"function": given} if callable(given) and not isinstance(given, Mask) else given

    @model_validator(mode="after")
    def _one_of_two(self) -> Mask:
        if (self.pattern is None) == (self.function is None):
            raise ValueError("needs either `pattern` or `function`")
        return self


def _or_a_pattern(schema: dict[str, Any]) -> None:
    schema["items"] = {"anyOf": [{"type": "string"}, schema["items"]]}


def _known_convention(name: str) -> str:
    if name not in CONVENTIONS:
        raise ValueError(f"must be one of {', '.join(CONVENTIONS)}")
    return name


def _is_header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError("must be the name of an HTTP header")
    return name


def _is_file(path: Path) -> Path:
    path = usable_path(path)
    if not path.is_file():
        raise ValueError("must name a file that exists")
    return path


ConventionName = Annotated[str, AfterValidator(_known_convention), WithJsonSchema({"enum": sorted(CONVENTIONS)})]
HeaderName = Annotated[str, AfterValidator(_is_header)]
ExistingFile = Annotated[Path, AfterValidator(_is_file)]


class DestinationConfig(ConfigModel, frozen=True):
    """The rules of one destination: what reaches it, and how much of it."""

    type: str = Field(description="Which kind of destination.")
    enabled: bool = Field(default=True, description="False: nothing is sent, and nothing is kept for it.")
    privacy_mode: bool = Field(
        default=False,
        description="Send only what is known to be no content: no messages, tools, error texts or unknown fields.",
    )
    sampling_rate: Number = Field(
        1.0, ge=MIN_SAMPLING_RATE, le=1, description="Share of sessions (else traces) sent, the same in every process."
    )
    api_keys: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        validation_alias=AliasChoices(*FIRST_API_KEYS),
        description="Names or hashes of the API keys whose calls are sent; absent: all.",
    )
    filter_rules: FilterRules | None = Field(None, description="Which spans are sent; absent: all.")
    respect_parent_sampling: bool = Field(default=False, description="Send only spans whose parent was sampled.")
    spans: Literal["genai", "all"] = Field("genai", description="LLM spans and their groups only, or whole traces.")
    always_keep_errors: bool = Field(default=False, description="Send failed calls whatever the sampling rate.")
    always_keep_cost_above: Amount | None = Field(
        None, description="Send dearer calls (USD) whatever the sampling rate."
    )
    mask: tuple[Mask, ...] = Field(
        (), description="Patterns and functions that take things out of every text.", json_schema_extra=_or_a_pattern
    )
    max_attribute_bytes: ByteSize | None = Field(None, description="Longer values are shortened and stay valid JSON.")
    max_span_bytes: ByteSize | None = Field(None, description="Larger spans are shortened.")
    convention: ConventionName | None = Field(
        None,
        description="The attribute convention, where another than the destination's own is wanted.",
    )

    def place(self) -> Place:
        """Return where this destination sends: the address and the account, no secret that can be read."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Return what is equal for two destinations if they have one type and send to one place."""
        return self.place().fingerprint(self.type)


class NetworkConfig(DestinationConfig, frozen=True):
    """How one destination is reached over HTTP or gRPC."""

    headers: dict[HeaderName, Secret] = Field(default_factory=dict[str, Secret], description="Further headers.")
    headers_from: NamedFunction | None = Field(
        None, description="Function that returns further headers; asked again where the answer is 401."
    )
    timeout: Duration = Field(10.0, description="How long one delivery may take.")
    ca_file: ExistingFile | None = Field(
        None, description="PEM file of the certificate authorities trusted, instead of the usual."
    )
    cert_file: ExistingFile | None = Field(None, description="PEM file of the client certificate.")
    key_file: ExistingFile | None = Field(None, description="PEM file of the client certificate's key.")
    verify: bool = Field(default=True, description="False: accept any certificate. For tests only.")
    proxy: Address | None = Field(None, description="Proxy for this destination; absent: as HTTPS_PROXY says.")

    @model_validator(mode="after")
    def _key_has_its_certificate(self) -> NetworkConfig:
        if self.key_file is not None and self.cert_file is None:
            raise failure(("cert_file",), None, "is missing; `key_file` needs it")
        return self

    def network_place(self, url: str, account: Facts | None = None, credentials: Facts | None = None) -> Place:
        """Return the place at ``url``, with what the fields of this class say of the account.

        A header may be a tenant or a key, which cannot be told apart: all of them count. A token that
        is renewed belongs into ``headers_from``.
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
        """Return ``headers`` and those of ``headers_from``, in clear: for the request only."""
        own = {name: value.get_secret_value() for name, value in self.headers.items()}
        return {**own, **self.headers_from()} if self.headers_from else own
