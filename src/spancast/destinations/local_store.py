"""The local store as a destination: spans in a SQLite file, for SQL queries or ``spancast traces`` and ``show``."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

from pydantic import Field

from spancast.destinations.config import OwnFormatConfig
from spancast.destinations.field_types import Duration, UserPath
from spancast.destinations.place import Place, absolute
from spancast.destinations.protocol import Delivered, Encoder, Outcome, Payload, Rejected, Retry
from spancast.destinations.span_store import Store, default_store_path
from spancast.encoding.span_data import SpanData

_NO_HOME: Final = "no home directory for the local store: set XDG_STATE_HOME or the `path` of the store"
_NS_PER_S: Final = 1_000_000_000
_DELETE_EVERY_S: Final = 3600.0
_VALUE_ERRORS: Final = (sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.IntegrityError)
"""SQLite errors caused by a value of a row; others are caused by the file."""


class StoreConfig(OwnFormatConfig, frozen=True):
    """A SQLite file of spans."""

    type: Literal["store"]
    path: UserPath | None = Field(default_factory=default_store_path, description="The SQLite file.")
    max_age: Duration = Field(30 * 86_400.0, description="Older spans are deleted.")

    def place(self) -> Place:
        """Return the path of the file."""
        return Place(address={"path": None if self.path is None else absolute(self.path)})


class StoreDestination:
    """Writes batches to a ``Store`` and deletes old spans."""

    def __init__(self, config: StoreConfig, encoder: Encoder, now_s: Callable[[], float] = time.time) -> None:
        self.encoder = encoder
        self.store = Store(config.path) if config.path else None
        self._max_age_s = config.max_age
        self._now_s = now_s
        self._deleted_s = 0.0

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:  # noqa: ARG002 - SQLite has a limit of its own
        """Write ``payload``; a full disk or locked file gives ``Retry``, a value that SQLite cannot store raises."""
        return self._attempt(lambda store: self._write(store, payload.spans))

    def test_connection(self, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Return success if the file can be opened and written."""
        return self._attempt(lambda store: store.write(()))

    def close(self) -> None:
        """Do nothing: the file is open only while it is used."""

    def _write(self, store: Store, spans: Sequence[SpanData]) -> None:
        store.write(spans)
        now_s = self._now_s()
        if now_s - self._deleted_s > _DELETE_EVERY_S:
            self._deleted_s = now_s
            store.forget(int((now_s - self._max_age_s) * _NS_PER_S))

    def _attempt(self, act: Callable[[Store], None]) -> Outcome:
        if self.store is None:
            return Rejected(_NO_HOME)
        try:
            act(self.store)
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, _VALUE_ERRORS):
                raise
            return Retry(f"{self.store.path}: {error}")
        return Delivered()
