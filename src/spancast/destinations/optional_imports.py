"""Import of optional dependencies, when a destination that needs one is created."""

from __future__ import annotations

import importlib
from typing import Any

from spancast.errors import ConfigError


def required(module: str, extra: str) -> Any:  # noqa: ANN401 - a module
    """Import and return ``module``.

    Raises:
        ConfigError: The module is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; run `pip install 'spancast[{extra}]'`") from None
