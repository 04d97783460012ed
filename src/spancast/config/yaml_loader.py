"""YAML 1.2 reader: ``no`` and ``0123`` are strings, and a duplicate key is an error.

Error messages never quote a value of the file, which may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

import yaml

from spancast.errors import ConfigError

_SCALARS: Final = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN\0"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
)
_MERGE: Final = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """A loader of plain values only, with the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - PyYAML's own way


for _tag, _pattern, _first_characters in _SCALARS:
    _starting = ["" if one == "\0" else one for one in _first_characters]
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _starting)  # pyright: ignore[reportUnknownMemberType] - untyped there


def _check_duplicate_keys(root: yaml.Node) -> None:
    seen: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        # With anchors a node can occur many times, even inside itself.
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _check_keys(key for key, _ in node.value)
            pending += [part for entry in node.value for part in entry]
        else:
            pending += cast("list[yaml.Node]", node.value)


def _check_keys(keys: Iterable[yaml.Node]) -> None:
    seen: set[tuple[str, str]] = set()
    for key in keys:
        name = (str(key.tag), str(key.value))
        if isinstance(key, yaml.ScalarNode) and name in seen and key.tag != _MERGE:
            raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
        seen.add(name)


def _load(text: str) -> Any:  # noqa: ANN401
    loader = _Loader(text)
    node: yaml.Node | None = loader.get_single_node()
    if node is None:
        return None
    _check_duplicate_keys(node)
    return cast("Any", loader).construct_document(node)  # typed in some versions of the stubs only


def read_file(path: Path) -> dict[str, Any]:
    """Return the settings mapping in the YAML file at ``path``; an empty one if the file is empty.

    Raises:
        ConfigError: The file cannot be read, is not YAML or is not a mapping.
    """
    try:
        text = path.expanduser().read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from None
    except (ValueError, RuntimeError) as error:
        # A character that a path cannot contain, or no home directory for `~`.
        raise ConfigError(f"{str(path)!r}: cannot be read ({error})") from None
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must be a mapping of settings (given: {type(value).__name__})")
    return cast("dict[str, Any]", value)


def parse_yaml(text: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Return the value of the YAML ``text``.

    Raises:
        ValueError: The text is not YAML; the message has the line and column and quotes no value.
    """
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem or "unknown"
        message = problem if "duplicate key" in problem else f"is not YAML: {problem}"
        raise ValueError(message + position) from None
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {getattr(error, 'reason', type(error).__name__)}") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"is not YAML: {type(error).__name__}") from None
