"""The description of an OTLP vendor, and the request target for a user's configuration.

``{field}`` in ``base``, ``headers``, ``basic`` and ``resource`` is replaced by the user's value. Headers
and resource attributes with a field that is not given are left out. ``basic`` is ``user:password`` of
HTTP Basic. ``account`` has the fields that identify the account and the project in it.
"""

from __future__ import annotations

import base64
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, SecretStr

FieldSpec: TypeAlias = tuple[Any, Any]
"""The type of a field and its pydantic ``Field``."""
Values: TypeAlias = Mapping[str, str]

TRACES: Final = "/v1/traces"
_NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpVendor:
    """A product that accepts OTLP over HTTP.

    The missing part of ``path`` is added to ``base``. ``derive`` adds values for templates and ``account``.
    ``accepted`` has the encodings that the product accepts, the preferred one first. A credential is in
    ``account`` only if nothing else identifies the account: queued spans are not delivered with another one.
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
    spans: Literal["genai", "all"] = "genai"


@dataclass(frozen=True, slots=True)
class Target:
    """The request target of one destination; ``headers`` contain credentials."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    resource: Mapping[str, str]
    account: Mapping[str, str | None]
    credentials: Mapping[str, str | None] = field(repr=False)


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
        signal_url(row.base.format_map(values), row.path),
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
