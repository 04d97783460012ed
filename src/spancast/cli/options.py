"""Common options, and the spool and store that they select: by option, else configuration, else default path.

Opening them creates no file and holds no lock that a running process waits for.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spancast.cli.command import CommandError
from spancast.config.env_vars import find, is_anything_set
from spancast.destinations.span_store import Store, default_store_path
from spancast.diagnostics import logger
from spancast.errors import ConfigError

if TYPE_CHECKING:
    from spancast.config.settings import Settings, SpoolSettings
    from spancast.destinations.config import DestinationConfig
    from spancast.export.spool.protocol import Spool

# Settings and the spool are imported when they are used: `spancast traces` without a file needs neither.

_NO_LIMIT: Final = 1 << 62
_IN_MEMORY: Final = "the spool is in memory, readable only by the process itself with `spancast.stats()`"


class NoSpoolError(CommandError):
    """There is no spool on disk that a command could read."""


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``; given after a subcommand, it overrides the one before it."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="default: SPANCAST_CONFIG, else ./spancast.yaml",
    )


def add_spool_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--spool``; given after a subcommand, it overrides the one before it."""
    parser.add_argument(
        "--spool",
        type=Path,
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="directory of the spool; default: the configured one",
    )


def add_spool_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``, ``--spool`` and ``--json``."""
    add_config_option(parser)
    add_spool_option(parser)
    add_json_option(parser)


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and ``--store``."""
    add_config_option(parser)
    parser.add_argument(
        "--store", type=Path, metavar="FILE", help="default: the configured store, else the default path"
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")


def duration(text: str) -> float:
    """Return the seconds of an argument such as ``1m30s``.

    Raises:
        argparse.ArgumentTypeError: ``text`` is no duration.
    """
    from spancast.destinations.field_types import read_duration  # noqa: PLC0415 - see above

    try:
        return read_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def is_json(args: argparse.Namespace) -> bool:
    """Return whether ``--json`` was given."""
    return getattr(args, "json", False)


def load_settings(args: argparse.Namespace) -> Settings:
    """Return the settings of the named or found file and of the environment."""
    from spancast.config.settings import load  # noqa: PLC0415 - see above

    return with_otel_destinations(load(getattr(args, "config", None) or find()))


def with_otel_destinations(settings: Settings) -> Settings:
    """Return ``settings`` with the destinations that OpenTelemetry's variables name."""
    from spancast.config.settings import in_effect  # noqa: PLC0415 - see above

    return in_effect(settings) or settings


def configured(args: argparse.Namespace, *, is_needed: bool = True) -> Mapping[str, DestinationConfig]:
    """Return the enabled destinations; an empty mapping if not ``is_needed`` and ``--spool`` is given without a file.

    In that case no configuration is loaded.
    """
    if not is_needed and _named_spool(args) and not getattr(args, "config", None):
        return {}
    return {name: config for name, config in load_settings(args).destinations.items() if config.enabled}


@contextmanager
def opened_spool(args: argparse.Namespace) -> Generator[Spool]:
    """Open the existing spool.

    Raises:
        CommandError: There is no spool, or it cannot be used.
    """
    from spancast.export.spool.directory import SPOOL_FILE, open_spool  # noqa: PLC0415 - see above

    spool_settings = _spool_settings(args)
    if spool_settings.memory:
        raise NoSpoolError(_IN_MEMORY)
    if spool_settings.path is None:
        raise NoSpoolError("no home directory for the default spool; pass --spool DIR")
    file = spool_settings.path / SPOOL_FILE
    if not file.is_file():
        raise NoSpoolError(f"no spool at {file}: no span was queued there; pass --spool DIR for another")
    with _log_errors_only():
        # A command drops nothing for its age or size: the program that owns the spool may keep it longer.
        keep_s = math.inf if _named_spool(args) else spool_settings.keep_delivered
        spool = open_spool(spool_settings.path, _NO_LIMIT, math.inf, keep_s)
        try:
            _, error = spool.location()
            if error:
                raise CommandError(f"the spool {file} cannot be used: {error}")
            yield spool
        finally:
            spool.close()


def opened_store(args: argparse.Namespace) -> Store:
    """Open the existing local store.

    Raises:
        CommandError: There is no store.
    """
    path = store_path(args)
    if not path.is_file():
        raise CommandError(
            f"no store at {path}; traces are stored by a destination of `type: store`, and if no destination is"
            " configured, e.g. by `spancast run -- python app.py`; pass --store FILE for another"
        )
    return Store(path)


def store_beside(args: argparse.Namespace) -> Store | None:
    """Return the local store, or None if there is none."""
    try:
        return opened_store(args)
    except (CommandError, ConfigError):
        return None


def store_path(args: argparse.Namespace) -> Path:
    """Return the path of the local store, which may not exist.

    Raises:
        CommandError: There is no home directory.
    """
    path: Path | None = getattr(args, "store", None)
    if path is None and (getattr(args, "config", None) is not None or is_anything_set()):
        path = _configured_store(args)
    if path is None:
        path = default_store_path()
    if path is None:
        raise CommandError("no home directory for the default store; pass --store FILE")
    return path


def _configured_store(args: argparse.Namespace) -> Path | None:
    from spancast.destinations.local_store import StoreConfig  # noqa: PLC0415 - see above

    configs = load_settings(args).destinations.values()
    stores = [config for config in configs if isinstance(config, StoreConfig) and config.enabled]
    return stores[0].path if stores else None


def _named_spool(args: argparse.Namespace) -> Path | None:
    from spancast.export.spool.directory import SPOOL_FILE  # noqa: PLC0415 - see above

    path: Path | None = getattr(args, "spool", None)
    return path.parent if path is not None and path.name == SPOOL_FILE else path


def _spool_settings(args: argparse.Namespace) -> SpoolSettings:
    from spancast.config.settings import SpoolSettings  # noqa: PLC0415 - see above

    named = _named_spool(args)
    if named is not None:
        return SpoolSettings(path=named)
    try:
        return load_settings(args).spool
    except ConfigError as error:
        raise ConfigError(f"{error}\npass --spool DIR to use no configuration") from None


@contextmanager
def _log_errors_only() -> Generator[None]:
    # Commands print their own messages; only errors, such as a damaged spool, are logged.
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.ERROR)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
