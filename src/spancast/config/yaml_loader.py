"""YAML as YAML 1.2 means it: ``no`` is a text, ``0123`` keeps its zero, a key stands once.

Must never: quote a value of the file; it may be a secret.
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
    """Reads plain values only, by the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - PyYAML's own way


for _tag, _pattern, _first in _SCALARS:
    _starts = ["" if one == "\0" else one for one in _first]
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _starts)  # pyright: ignore[reportUnknownMemberType] - untyped there


def _refuse_double_keys(root: yaml.Node) -> None:
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        # By an anchor a node may stand in many places, even in itself.
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _refuse_double(key for key, _ in node.value)
            waiting += [part for entry in node.value for part in entry]
        else:
            waiting += cast("list[yaml.Node]", node.value)


def _refuse_double(keys: Iterable[yaml.Node]) -> None:
    seen: set[tuple[str, str]] = set()
    for key in keys:
        name = (str(key.tag), str(key.value))
        if isinstance(key, yaml.ScalarNode) and name in seen and key.tag != _MERGE:
            raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is written twice", problem_mark=key.start_mark)
        seen.add(name)


def _loaded(text: str) -> Any:  # noqa: ANN401
    loader = _Loader(text)
    node: yaml.Node | None = loader.get_single_node()
    if node is None:
        return None
    _refuse_double_keys(node)
    return cast("Any", loader.construct_document(node))  # pyright: ignore[reportUnknownMemberType] - untyped there


def read_file(path: Path) -> dict[str, Any]:
    """Return the mapping of settings in the YAML file at ``path``; nothing where it is empty.

    Raises:
        ConfigError: It cannot be read, is no YAML, or holds something else.
    """
    try:
        text = path.expanduser().read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is no UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from None
    except (ValueError, RuntimeError) as error:
        # A character that no path may have; no home directory for `~`.
        raise ConfigError(f"{str(path)!r}: cannot be read ({error})") from None
    try:
        read = parsed(text)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if read is None:
        return {}
    if not isinstance(read, dict):
        raise ConfigError(f"{path}: must hold a mapping of settings (given: {type(read).__name__})")
    return cast("dict[str, Any]", read)


def parsed(text: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Return the value of the YAML ``text``.

    Raises:
        ValueError: It is no YAML; the message says where and quotes no value.
    """
    try:
        return _loaded(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem or "unknown"
        told = problem if "is written twice" in problem else f"is no YAML: {problem}"
        raise ValueError(told + place) from None
    except yaml.YAMLError as error:
        raise ValueError(f"is no YAML: {getattr(error, 'reason', type(error).__name__)}") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"is no YAML: {type(error).__name__}") from None
