"""The Parquet destination: files of one row per span, on this machine or in an object store.

A batch is a file per day: ``date=YYYY-MM-DD/{start of the first span in ns}-{hash of the ids}.parquet``, which DuckDB,
polars, pandas, Spark and Athena read as one table. A file appears complete: readers of a folder fail at an
incomplete one. The same batch has the same name.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol

from pydantic import AfterValidator, Field, model_validator

from spancast.destinations.config import OwnFormatConfig, field_error
from spancast.destinations.field_types import Duration, Secret, Text, check_path
from spancast.destinations.optional_imports import required
from spancast.destinations.place import Place, absolute
from spancast.destinations.private_file import open_private
from spancast.destinations.protocol import Delivered, Encoder, Failure, Outcome, Payload, Rejected, Retry, after
from spancast.destinations.sql_rows import COLUMNS, ROW_NAMES, row_texts
from spancast.encoding.span_data import SpanData
from spancast.errors import ConfigError

EXTRA: Final = "parquet"
_DIRECTORY_MODE: Final = 0o700
_NS_PER_S: Final = 1_000_000_000
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#@]+)(/[^?#]*)?")
_SCHEMES: Final = ("s3", "gs", "az")
_TEST_NAME: Final = "connection-test"
_PLACE: Final = ("endpoint", "account_name")
_STATUS: Final = re.compile(r"status code: (\d{3}[A-Za-z ]*)|<Code>(\w+)</Code>")
_MISSING: Final = ("NotFoundError", "InvalidPathError", "NotSupportedError", "UnknownConfigurationKeyError")


def _check_target(value: str) -> str:
    scheme = value.partition("://")[0] if "://" in value else ""
    if not scheme:
        return check_path(value)
    match = _URL.fullmatch(value)
    if match is None or scheme not in _SCHEMES:
        raise ValueError("must be a folder, or `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`, `az://CONTAINER/FOLDER`")
    return value


class ParquetConfig(OwnFormatConfig, frozen=True):
    """A folder of Parquet files."""

    type: Literal["parquet"]
    path: Annotated[Text, AfterValidator(_check_target)] = Field(
        description="Folder, or `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`, `az://CONTAINER/FOLDER`."
    )
    options: dict[Text, Secret] = Field(
        default_factory=dict[str, Secret],
        description="Credentials and endpoint of the object store by obstore's names, such as `access_key_id` or"
        " `account_name`; default: as the cloud's own tools find them.",
    )
    timeout: Duration = Field(30.0, description="Time limit of one delivery to an object store.")

    @model_validator(mode="after")
    def _check_options_are_used(self) -> ParquetConfig:
        if self.options and self.is_local:
            raise field_error(("options",), None, "have no effect: they are of an object store, `path` is a folder")
        return self

    @property
    def is_local(self) -> bool:
        """Return whether the folder is on this machine."""
        return "://" not in self.path

    def place(self) -> Place:
        """Return the folder, and the options that say where its bucket or container is."""
        given = {name: self.options.get(name) for name in _PLACE}
        path = absolute(self.path) if self.is_local else self.path.rstrip("/")
        named = {name: option.get_secret_value().rstrip("/") for name, option in given.items() if option is not None}
        return Place(address={"path": path, **named})


class Folder(Protocol):
    """A place for files."""

    def put(self, name: str, body: bytes) -> Failure | None:
        """Write a file; return the outcome of a failure."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder on this machine. Only the user can read its files."""

    root: Path

    def put(self, name: str, body: bytes) -> Failure | None:
        """Write ``body`` to a temporary name, sync it and rename it."""
        target = self.root / name
        # Not `*.parquet`, and hidden: readers take neither.
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
            handle = open_private(temporary, os.O_WRONLY | os.O_TRUNC)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            return Retry(f"{target}: {error.strerror or type(error).__name__}")
        return None


class ObjectFolder:
    """A folder in an object store, which shows an object when it is complete."""

    def __init__(self, path: str, put: Callable[[str, bytes], object], failure: type[Exception]) -> None:
        self._path = path
        self._put = put
        self._failure = failure

    def put(self, name: str, body: bytes) -> Failure | None:
        """Write an object."""
        try:
            self._put(name, body)
        except (self._failure, OSError, ValueError) as error:
            # The text of an error has the URL of the request, which may be signed.
            found = _STATUS.search(str(error))
            status = f" ({(found[1] or found[2]).strip()})" if found else ""
            reason = f"{self._path}: {type(error).__name__}{status}"
            is_missing = type(error).__name__ in _MISSING or isinstance(error, FileNotFoundError)
            return Rejected(reason) if is_missing else Retry(reason)
        return None


class ParquetDestination:
    """Writes a file per day of each batch."""

    def __init__(self, config: ParquetConfig, encoder: Encoder, folder: Folder, write: Callable[..., bytes]) -> None:
        self.encoder = encoder
        self._config = config
        self._folder = folder
        self._write = write

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:  # noqa: ARG002 - the store has its time limit
        """Write the files of ``payload``; after a failure, the spans without a file are sent again."""
        taken: list[tuple[str, str]] = []
        for date, members in _days(payload.spans):
            ids = "".join(span.trace_id + span.span_id for span in members)
            digest = hashlib.sha256(ids.encode()).hexdigest()[:16]
            name = f"date={date}/{members[0].start_ns}-{digest}.parquet"
            failure = self._folder.put(name, self._write(members))
            if failure is not None:
                return after(taken, failure)
            taken += [(span.trace_id, span.span_id) for span in members]
        return Delivered()

    def test_connection(self, timeout_s: float) -> Outcome:  # noqa: ARG002 - the store has its time limit
        """Write an empty file, which needs the same rights as delivery."""
        return self._folder.put(_TEST_NAME, b"") or Delivered()

    def close(self) -> None:
        """Do nothing: there is no connection."""


def _days(spans: Sequence[SpanData]) -> Iterator[tuple[str, list[SpanData]]]:
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.span_id))
    for date, members in groupby(
        ordered, lambda span: f"{datetime.fromtimestamp(span.start_ns / _NS_PER_S, UTC):%Y-%m-%d}"
    ):
        yield date, list(members)


def _writer() -> Callable[[Sequence[SpanData]], bytes]:
    arrow, reader, parquet = (required(f"pyarrow{part}", EXTRA) for part in ("", ".json", ".parquet"))
    types = {
        "text": arrow.string(), "bigint": arrow.int64(), "double precision": arrow.float64(), "jsonb": arrow.string(),
        "timestamptz": arrow.timestamp("us", tz="UTC"), "text[]": arrow.list_(arrow.string()),
    }  # fmt: skip
    schema = arrow.schema(
        [(name, types[COLUMNS[name.upper()].postgres.removesuffix(" not null")]) for name in ROW_NAMES]
    )

    def write(spans: Sequence[SpanData]) -> bytes:
        lines = "\n".join(row_texts(spans, ROW_NAMES, json_as_text=True)).encode()
        # One block: a row may not be divided. From Python objects, pyarrow would import pandas if it is installed.
        table = reader.read_json(
            io.BytesIO(lines),
            read_options=reader.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=reader.ParseOptions(explicit_schema=schema),
        )
        sink = io.BytesIO()
        parquet.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    return write


def _object_folder(config: ParquetConfig) -> Folder:
    store, errors = required("obstore.store", EXTRA), required("obstore.exceptions", EXTRA)
    put = required("obstore", EXTRA).put
    options = {name: value.get_secret_value() for name, value in config.options.items()}
    try:
        opened = store.from_url(
            config.path,
            config=options or None,
            client_options={
                "timeout": f"{round(config.timeout * 1000)}ms",
                "allow_http": options.get("endpoint", "").startswith("http://"),
            },
            # The delivery worker retries, by the same rules for every destination.
            retry_config={"max_retries": 0},
        )
    except (errors.BaseError, ValueError, TypeError) as error:
        text = str(error).partition("\n")[0]
        for value in options.values():
            text = text.replace(value, "***")
        raise ConfigError(f"path, options: {text}") from None
    return ObjectFolder(config.path, lambda name, body: put(opened, name, body), errors.BaseError)


def create(config: ParquetConfig, encoder: Encoder) -> ParquetDestination:
    """Return the destination of ``config``.

    Raises:
        ConfigError: pyarrow or obstore is not installed, or obstore rejects an option.
    """
    folder = LocalFolder(Path(config.path).expanduser()) if config.is_local else _object_folder(config)
    return ParquetDestination(config, encoder, folder, _writer())
