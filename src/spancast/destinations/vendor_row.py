"""The shape of a row of ``otlp_vendors``, and what it comes to with a user's values.

``{field}`` in ``base``, ``headers``, ``basic`` and ``resource`` stands for the user's value; what
names a field that is not given is left out. ``basic`` is ``user:password`` of HTTP Basic.
``account`` are the fields that name the account and the part of it that gets the spans.
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
    """How one product takes OTLP over HTTP.

    ``path`` is added to ``base`` as far as it is not there yet; ``derive`` adds values that
    templates and ``account`` may name; ``accepted`` are the encodings the product takes, the preferred
    first. A credential is in ``account`` only if nothing else names the account: spans that wait are
    not delivered with another one.
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
    """Where and how one entry of the configuration is reached; ``headers`` hold credentials."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    resource: Mapping[str, str]
    account: Mapping[str, str | None]
    credentials: Mapping[str, str | None] = field(repr=False)


def target(row: OtlpVendor, config: BaseModel) -> Target:
    """Return what ``row`` comes to with the values of ``config``."""
    values = _values(row, config)
    headers = _filled(row.headers, values)
    if row.basic:
        credentials = row.basic.format_map(values).encode()
        headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
    account = {name: values.get(name) for name in row.account}
    secret = {name for name in account if isinstance(getattr(config, name, None), SecretStr)}
    return Target(
        signal_url(row.base.format_map(values), row.path),
        headers,
        _filled(row.resource, values),
        account={name: value for name, value in account.items() if name not in secret},
        credentials={name: value for name, value in account.items() if name in secret},
    )


def signal_url(base: str, path: str = TRACES) -> str:
    """Return ``base`` with ``path`` behind it, as far as it is not there yet.

    Base, full and half-full addresses come to the same, with or without a last slash:
    ``https://h``, ``https://h/otlp/``, ``https://h/otlp/v1/traces`` for ``/otlp/v1/traces``.
    """
    parts = urlsplit(base)
    there, wanted = _segments(parts.path), _segments(path)
    if there[-len(_segments(TRACES)) :] != _segments(TRACES):
        shared = max(size for size in range(len(wanted) + 1) if there[len(there) - size :] == wanted[:size])
        there = [*there, *wanted[shared:]]
    return urlunsplit(parts._replace(path="/" + "/".join(there)))


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


def _filled(templates: Mapping[str, str], values: Values) -> dict[str, str]:
    return {
        name: template.format_map(values)
        for name, template in templates.items()
        if all(named in values for _, named, _, _ in string.Formatter().parse(template) if named)
    }
