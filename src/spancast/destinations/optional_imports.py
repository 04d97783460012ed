"""Vendors' libraries, imported when a destination that needs one is made."""

from __future__ import annotations

import importlib
from typing import Any

from spancast.errors import ConfigError


def required(module: str, extra: str) -> Any:  # noqa: ANN401 - a module
    """Return ``module``.

    Raises:
        ConfigError: It is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; `pip install 'spancast[{extra}]'` brings it") from None
