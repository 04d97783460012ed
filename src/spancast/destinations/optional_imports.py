"""Import of optional dependencies, when a destination that needs one is created."""

from __future__ import annotations

import importlib
from typing import Any

from spancast.errors import ConfigError


def required(module: str, extra: str) -> Any:  # noqa: ANN401 - a module
    """Import and return ``module``.

    Raises:
        ConfigError: The module, or one that it needs, is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # google-auth raises its own, without a name.
        raise ConfigError(f"{error.name or module} is not installed; run `pip install 'spancast[{extra}]'`") from None
