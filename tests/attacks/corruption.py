"""Damage to a spool at rest: what a program that starts on the damaged file does with its new spans.

A trial copies a spool in which spans are queued, damages the copy, configures spancast on it, makes spans, and flushes.
Every new span must arrive, or ``flush()`` must be false and the span counted; nothing but ``ConfigError`` may be raised.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.trace import TracerProvider

import spancast
from spancast.destinations.protocol import Outcome, Payload, Rejected, Retry
from spancast.errors import ConfigError
from spancast.export.spool.directory import SPOOL_FILE

NEW: Final = 5
PATIENCE_S: Final = 30.0
_QUEUED: Final = 60
_PAGE: Final = 8192


class Destination:
    """Stores the names of spans; ``outcome`` is that of every delivery, accepted if None."""

    place = "https://example.com/attack"

    def __init__(self, outcome: Outcome | None = None) -> None:
        self.names: list[str] = []
        self.outcome = outcome

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome | None:
        if self.outcome is None:
            self.names += [span.name for span in payload.spans]
        elif isinstance(self.outcome, Rejected):
            self.outcome = None
            return Rejected("the first is rejected")
        return self.outcome


def make(provider: TracerProvider, names: Sequence[str]) -> None:
    tracer = provider.get_tracer("attacks")
    for name in names:
        text = f'[{{"role":"user","parts":[{{"type":"text","content":"{name * 40}"}}]}}]'
        tracer.start_span(name, attributes={"gen_ai.operation.name": "chat", "gen_ai.input.messages": text}).end()


def configured(folder: Path | None, destination: Destination, provider: TracerProvider | None = None) -> TracerProvider:
    provider = provider or TracerProvider(shutdown_on_exit=False)
    spancast.configure(
        tracer_provider=provider,
        spool="memory" if folder is None else {"path": str(folder)},
        destinations={"one": {"type": destination, "spans": "all"}},
        shutdown_timeout=PATIENCE_S,
    )
    return provider


def prepare(folder: Path) -> None:
    """Make a spool with delivered, dead-lettered and queued spans, part of them only in the write-ahead log."""
    destination = Destination(Rejected(""))
    provider = configured(folder, destination)
    make(provider, ["dead"])
    spancast.flush(PATIENCE_S)
    make(provider, [f"delivered {number}" for number in range(_QUEUED)])
    spancast.flush(PATIENCE_S)
    destination.outcome = Retry("down")
    make(provider, [f"queued {number}" for number in range(_QUEUED)])
    spancast.flush(0.2)
    make(provider, [f"queued in the log {number}" for number in range(_QUEUED)])
    spancast.flush(0.2)
    # As kill -9 leaves it: the write-ahead log beside the file.
    shutil.copytree(folder, folder.with_name("copy"))
    spancast.shutdown(0.2)
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


Damage = Callable[[random.Random, Path], None]


def _any_file(chance: random.Random, path: Path) -> Path:
    wal = path.with_name(path.name + "-wal")
    return wal if wal.exists() and chance.random() < 1 / 3 else path


def random_bytes(chance: random.Random, path: Path) -> None:
    path = _any_file(chance, path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(chance.choice((1, 1, 4, 50))):
            file.seek(chance.randrange(size))
            file.write(chance.randbytes(chance.choice((1, 8, 300))))


def random_page(chance: random.Random, path: Path) -> None:
    path = _any_file(chance, path)
    with path.open("r+b") as file:
        file.seek(chance.randrange(path.stat().st_size // _PAGE) * _PAGE)
        file.write(chance.choice((bytes(_PAGE), b"\xff" * _PAGE, chance.randbytes(_PAGE))))


def truncation(chance: random.Random, path: Path) -> None:
    path = _any_file(chance, path)
    with path.open("r+b") as file:
        file.truncate(chance.randrange(path.stat().st_size))


def page_over_page(chance: random.Random, path: Path) -> None:
    """As after a disk that wrote a block to another place."""
    with path.open("r+b") as file:
        pages = path.stat().st_size // _PAGE
        file.seek(chance.randrange(pages) * _PAGE)
        block = file.read(_PAGE)
        file.seek(chance.randrange(pages) * _PAGE)
        file.write(block)


def file_without_log(chance: random.Random, path: Path) -> None:
    for suffix in chance.choice((("-wal",), ("-shm",), ("-wal", "-shm"), ("",))):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def value_of_another_type(chance: random.Random, path: Path) -> None:
    """A value that SQLite reads well and that is none of ours: the damage is in a row, not in the structure."""
    with closing(sqlite3.connect(path)) as connection:
        table = chance.choice(("spool", "batches", "routes", "states"))
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        odd: Any = chance.choice(
            (b"\xff\xfe", b"", -1, 0, 1 << 62, -(1 << 63), 1e300, "text", "", None, "CAST(x'fffe' AS TEXT)")
        )
        value, given = (odd, ()) if str(odd).startswith("CAST") else ("?", (odd,))
        try:
            connection.execute(
                f"UPDATE OR IGNORE {table} SET {chance.choice(columns)} = {value}"
                f" WHERE rowid IN (SELECT rowid FROM {table} ORDER BY random() LIMIT 1)"
                if table != "states"
                else f"UPDATE OR IGNORE {table} SET {chance.choice(columns)} = {value}",
                given,
            )
            connection.commit()
        except sqlite3.Error:
            return


def row_missing(chance: random.Random, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"DELETE FROM {chance.choice(('spool', 'batches', 'routes', 'states'))}")
        connection.commit()


DAMAGES: Final[Sequence[Damage]] = (
    random_bytes,
    random_page,
    truncation,
    page_over_page,
    file_without_log,
    value_of_another_type,
    row_missing,
)


def trial(template: Path, folder: Path, seed: int) -> str:
    """Damage a copy of ``template`` as ``seed`` says, use it, and return what happened."""
    chance = random.Random(seed)
    shutil.copytree(template, folder)
    damage = DAMAGES[seed % len(DAMAGES)]
    damage(chance, folder / SPOOL_FILE)
    destination = Destination()
    try:
        provider = configured(folder, destination)
    except ConfigError:
        spancast.shutdown(1)
        return "refused"
    names = [f"new {seed} {number}" for number in range(NEW)]
    try:
        make(provider, names)
        report = spancast.flush(PATIENCE_S)
    finally:
        spancast.shutdown(1)
    arrived = Counter(destination.names)
    lost = sum(not arrived[name] for name in names)
    if lost:
        return "lost and flush() true" if report else "lost and reported"
    return (
        "twice" if any(arrived[name] > 1 for name in names) else "delivered" if report else "delivered, flush() false"
    )


def trials(folder: Path, seeds: Sequence[int], *, note: Callable[[int, str], None] = lambda *_: None) -> Counter[str]:
    """Return how many of the trials ``seeds`` ended in which way; an exception is one of them."""
    template = folder / "template"
    prepare(template)
    found: Counter[str] = Counter()
    for seed in seeds:
        own = folder / str(seed)
        try:
            result = trial(template, own, seed)
        except Exception as error:  # noqa: BLE001 - none may be raised
            result = f"raised {type(error).__name__}"
        found[result] += 1
        note(seed, result)
        shutil.rmtree(own, ignore_errors=True)
    return found
