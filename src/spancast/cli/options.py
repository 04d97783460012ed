"""Where the spool and the store are: as options say, else the configuration, else the usual place.

Must never: make a file that is not there, or hold anything a running process waits for.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from spancast.cli.command import CommandError
from spancast.config import settings as settings_module
from spancast.config.settings import Settings, SpoolSettings
from spancast.destinations.config import DestinationConfig
from spancast.destinations.local_store import Store, StoreConfig, default_store_path
from spancast.diagnostics import logger
from spancast.errors import ConfigError
from spancast.export.pipeline import SPOOL_FILE, open_spool
from spancast.export.spool.protocol import SpoolAdmin

_IN_MEMORY: Final = (
    "the configuration keeps the spool in memory, where only the process itself can look: `spancast.stats()`"
)


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``; a subcommand's takes the place of its command's."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="default: SPANCAST_CONFIG, else ./spancast.yaml",
    )


def add_spool_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``, ``--spool`` and ``--json``."""
    add_config_option(parser)
    parser.add_argument(
        "--spool",
        type=Path,
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="directory of the spool; default: as configured",
    )
    add_json_option(parser)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for scripts")


def is_json(given: argparse.Namespace) -> bool:
    """Tell whether a script is to read the answer."""
    return getattr(given, "json", False)


def load_settings(given: argparse.Namespace) -> Settings:
    """Return the settings of the file that was named or found, and of the environment."""
    return effective(settings_module.load(getattr(given, "config", None) or settings_module.find()))


def effective(settings: Settings) -> Settings:
    """Return ``settings`` with the destinations that OpenTelemetry's variables name."""
    return settings_module.in_effect(settings) or settings


def configured(given: argparse.Namespace, *, is_needed: bool = True) -> Mapping[str, DestinationConfig]:
    """Return the enabled destinations; unless they are needed, none if only a spool was named.

    That needs no configuration.
    """
    if not is_needed and _named_spool(given) and not getattr(given, "config", None):
        return {}
    return {name: config for name, config in load_settings(given).destinations.items() if config.enabled}


@contextmanager
def opened_spool(given: argparse.Namespace) -> Generator[SpoolAdmin]:
    """Open the spool that is there.

    Raises:
        CommandError: There is none, or it cannot be used.
    """
    bounds = _spool_settings(given)
    if bounds.memory:
        raise CommandError(_IN_MEMORY)
    if bounds.path is None:
        raise CommandError("there is no home directory and so no usual place for a spool; `--spool DIR` names one")
    file = bounds.path / SPOOL_FILE
    if not file.is_file():
        raise CommandError(
            f"no spool at {file}; nothing was handed to a destination there. `--spool DIR` names another"
        )
    with _only_errors():
        spool = open_spool(bounds.path, bounds.limit_bytes, bounds.max_age)
        try:
            trouble = spool.size().trouble
            if trouble:
                raise CommandError(f"the spool {file} cannot be used: {trouble}")
            yield spool
        finally:
            spool.close()


def opened_store(given: argparse.Namespace) -> Store:
    """Return the local store that is there.

    Raises:
        CommandError: There is none.
    """
    path: Path | None = getattr(given, "store", None) or _store_path(load_settings(given))
    if path is None:
        raise CommandError("there is no home directory and so no usual place for a store; `--store FILE` names one")
    if not path.is_file():
        raise CommandError(
            f"no store at {path}. Traces are kept there by a destination of `type: store`, and wherever no destination"
            " is configured, e.g. by `spancast run -- python app.py`. `--store FILE` names another"
        )
    return Store(path)


def store_beside(given: argparse.Namespace) -> Store | None:
    """Return the local store if there is one to be asked."""
    try:
        return opened_store(given)
    except (CommandError, ConfigError):
        return None


def _store_path(settings: Settings) -> Path | None:
    stores = [config for config in settings.destinations.values() if isinstance(config, StoreConfig) and config.enabled]
    return stores[0].path if stores else default_store_path()


def _named_spool(given: argparse.Namespace) -> Path | None:
    path: Path | None = getattr(given, "spool", None)
    return path.parent if path is not None and path.name == SPOOL_FILE else path


def _spool_settings(given: argparse.Namespace) -> SpoolSettings:
    named = _named_spool(given)
    if named is not None:
        return SpoolSettings(path=named)
    try:
        return load_settings(given).spool
    except ConfigError as error:
        raise ConfigError(f"{error}\n`--spool DIR` needs no configuration") from None


@contextmanager
def _only_errors() -> Generator[None]:
    # What a command says it says itself; a spool that proves damaged is told all the same.
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.ERROR)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
