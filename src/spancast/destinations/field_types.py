"""Pydantic field types for sizes, durations, addresses, secrets and paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
)

from spancast.encoding.safe_regex import pattern_fault

HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_UNIT_BYTES: Final = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
    "kB": 1000,
}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
# Limits of SQLite integers and of `time`.
_MAX_BYTES: Final = 2**63 - 1
_MAX_S: Final = 1e12

SIZE_FORM: Final = "a size such as `512MiB` or `10MB`, or a number of bytes"
DURATION_FORM: Final = "a duration such as `500ms`, `30s`, `1h30m` or `7d`, or a number of seconds"


def read_size(value: object) -> int:
    """Parse a size such as ``512MiB``, ``10MB``, ``4096`` or 4096; return bytes.

    Raises:
        ValueError: The value has another form or is not positive.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is not None:
            value = round(float(match[1]) * _UNIT_BYTES[match[2]])
        elif value.strip().isdecimal():
            value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_BYTES:
        raise ValueError(f"must be {SIZE_FORM}")
    return value


def read_duration(value: object) -> float:
    """Parse a duration such as ``7d``, ``1h30m``, ``2.5`` or 2.5; return seconds.

    Raises:
        ValueError: The value has another form or is not positive.
    """
    if isinstance(value, str):
        text = value.strip()
        if _DURATION.fullmatch(text):
            value = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
        elif re.fullmatch(r"\d+(\.\d+)?", text):
            value = float(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _MAX_S:
        raise ValueError(f"must be {DURATION_FORM}")
    return float(value)


def read_duration_or_zero(value: object) -> float:
    """Return 0 for ``0``, else what ``read_duration`` returns.

    Raises:
        ValueError: It is neither.
    """
    if not isinstance(value, bool) and value in (0, "0"):
        return 0.0
    try:
        return read_duration(value)
    except ValueError:
        raise ValueError(f"must be {DURATION_FORM}, or `0`") from None


def usable_path(path: Path) -> Path:
    """Return ``path`` with ``~`` replaced by the home directory.

    Raises:
        ValueError: There is no such home directory, or the path contains a NUL character.
    """
    if "\0" in str(path):
        raise ValueError("must be a path without control characters")
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("must be a path; there is no home directory for `~`") from None


def check_path(text: str) -> str:
    """Return ``text`` unchanged if ``usable_path`` accepts it, else raise its ValueError."""
    usable_path(Path(text))
    return text


class WebAddress(str):
    """An http(s) URL; ``repr`` hides user name, password and query, which may be credentials."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(redacted_url(self))


def redacted_url(url: str) -> str:
    """Return ``url`` for display, without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{'***@' if '@' in parts.netloc else ''}{host}{parts.path}{'?***' if parts.query else ''}"


def parse_address(value: str) -> WebAddress:
    """Parse an http(s) URL.

    Raises:
        ValueError: It is no such URL, or has spaces or control characters.
    """
    text = value.strip()
    try:
        parts = urlsplit(text)
        is_port_valid = parts.port is None or parts.port > 0
    except ValueError:
        parts, is_port_valid = urlsplit(""), False
    if parts.scheme not in {"http", "https"} or not parts.hostname or not is_port_valid:
        raise ValueError("must be a URL that starts with http:// or https:// and names a host")
    if re.search(r"[\s\x00-\x1f]", text):
        raise ValueError("must be a URL without spaces or control characters")
    return WebAddress(text)


def _parse_secret(value: SecretStr) -> SecretStr:
    # A key read from a file ends with a newline, which is invalid in a header.
    text = value.get_secret_value().strip()
    if not text:
        raise ValueError("must not be empty")
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("must not contain control characters")
    return SecretStr(text)


def reject_boolean(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return ``value`` unchanged.

    Raises:
        ValueError: The value is a boolean, which pydantic would read as a number.
    """
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reads ValueError
    return value


def _number_as_text(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_QUANTITY: Final[dict[str, Any]] = {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]}

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(reject_boolean)]
"""A number that is not negative."""
ByteSize = Annotated[int, BeforeValidator(read_size), WithJsonSchema({**_QUANTITY, "examples": ["512MiB", "10MB"]})]
"""Bytes, written ``512MiB``."""
Duration = Annotated[
    float,
    BeforeValidator(read_duration),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}], "examples": ["30s", "7d"]}
    ),
]
"""Seconds, written ``7d``."""
DurationOrZero = Annotated[
    float,
    BeforeValidator(read_duration_or_zero),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": [0, "7d"]}),
]
"""Seconds, written ``7d`` or ``0``."""
Address = Annotated[
    str,
    AfterValidator(parse_address),
    PlainSerializer(redacted_url, when_used="json"),
    WithJsonSchema({"type": "string", "format": "uri"}),
]
"""An http(s) URL; the value is a ``WebAddress``."""
Secret = Annotated[SecretStr, AfterValidator(_parse_secret)]
"""A credential: stripped, not empty, never printed."""
Text = Annotated[
    str,
    BeforeValidator(_number_as_text),
    StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\x00-\x1f]*$"),
]
"""A name or id on one line; a number in YAML becomes a string."""
UserPath = Annotated[Path, AfterValidator(usable_path)]
"""A path; ``~`` is the home directory."""


def _check_pattern(pattern: str) -> str:
    if fault := pattern_fault(pattern):
        raise ValueError(fault)
    return pattern


Pattern = Annotated[str, AfterValidator(_check_pattern)]
"""A regular expression."""
