"""Sums of calls by day in the index of the local store, so that the totals of a million calls are read at once.

A cell has the calls of one local day with one value of one key: a model, a provider, a user, a session, the day, an
hour, or a custom key. Durations are counted in classes of 4 %, so a percentile of cells is right within 2 %. Of few
calls the spans themselves are read.
"""

from __future__ import annotations

import math
import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, NamedTuple, Self

from spancast.model import json_codec
from spancast.model.json_codec import is_list, is_mapping

MODEL: Final = "@model"
PROVIDER: Final = "@provider"
SESSION: Final = "@session"
USER: Final = "@user"
STATUS: Final = "@status"
DAY: Final = "@day"
HOUR: Final = "@hour"
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sums (
    key TEXT, day TEXT, value TEXT, calls INTEGER, errors INTEGER, input INTEGER, output INTEGER, cached INTEGER,
    cost INTEGER,                   -- 10^-12 USD: sums of integers can be subtracted again
    estimated INTEGER,
    times TEXT,                     -- class of duration and number of calls: 431:2 433:1
    PRIMARY KEY (key, day, value)) WITHOUT ROWID;
"""
CALL: Final = (
    "start_ns, end_ns, error IS NOT NULL, input, output, cached, cost, is_estimated, model, provider, session, user,"
    " keys"
)
"""The columns of ``Call`` in the table ``spans``."""
_EXACT: Final = 10_000
_RARE: Final = 2_000
_MAX_KEY_VALUE: Final = 120
_PER_E: Final = 1 / math.log(1.04)
_PICO: Final = 10**12
_NS_PER_S: Final = 1_000_000_000
_QUARTER_NS: Final = 900 * _NS_PER_S
_DAY_AND_A_HALF_NS: Final = 36 * 3_600 * _NS_PER_S
_NEVER_NS: Final = 1 << 62
_COLUMNS: Final[Mapping[str, str]] = {MODEL: "model", PROVIDER: "provider", SESSION: "session", USER: "user"}
_ADDED: Final = ("calls", "errors", "input", "output", "cached", "cost", "estimated")


class Sums(NamedTuple):
    """The calls of one group: ``p50_ms`` and ``p95_ms`` are of their durations, ``cached`` is a part of ``input``."""

    group: str
    calls: int
    errors: int
    p50_ms: float
    p95_ms: float
    input: int
    output: int
    cached: int
    cost: float
    is_estimated: bool


class Call(NamedTuple):
    """The part of a span that is summed."""

    start_ns: int
    end_ns: int
    is_failed: int
    input: int | None
    output: int | None
    cached: int | None
    cost: float | None
    is_estimated: int
    model: str | None
    provider: str | None
    session: str | None
    user: str | None
    keys: str

    def values(self, key: str) -> list[str]:
        """Return the values of this call for ``key``; more than one if it is a list, none if it has no such key."""
        if key in _COLUMNS:
            return [getattr(self, _COLUMNS[key]) or ""]
        if key == STATUS:
            return ["error" if self.is_failed else "ok"]
        if key in (DAY, HOUR):
            local = _local_hour(self.start_ns // _QUARTER_NS)
            return [local[:10] if key == DAY else local]
        value = self.own_keys().get(key)
        return (
            []
            if value is None
            else list(dict.fromkeys(key_text(one) for one in (value if is_list(value) else (value,))))
        )

    def own_keys(self) -> Mapping[str, Any]:
        """Return the custom keys."""
        keys = json_codec.decode(self.keys)
        return keys if is_mapping(keys) else {}


@dataclass(slots=True)
class _Cell:
    """Sums that can be added to and subtracted from; ``cost`` in 10^-12 USD."""

    calls: int = 0
    errors: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    cost: int = 0
    estimated: int = 0
    classes: Counter[int] = field(default_factory=Counter[int])
    text: str = ""
    """Classes as they are stored."""
    times_ns: list[int] = field(default_factory=list[int])
    """Exact durations; if there are ``classes`` from cells, these are counted there, too."""

    def add(self, call: Call, sign: int = 1) -> None:
        self.calls += sign
        self.errors += sign * bool(call.is_failed)
        self.input += sign * (call.input or 0)
        self.output += sign * (call.output or 0)
        self.cached += sign * (call.cached or 0)
        self.cost += sign * round((call.cost or 0) * _PICO)
        self.estimated += sign * bool(call.is_estimated)

    def add_sums(self, row: Sequence[Any]) -> None:
        self.calls += row[0]
        self.errors += row[1]
        self.input += row[2]
        self.output += row[3]
        self.cached += row[4]
        self.cost += row[5]
        self.estimated += row[6]

    def add_times(self, text: str) -> None:
        # Most classes are in many cells: each is parsed once.
        classes = self.classes
        for one, times in Counter(text.split()).items():
            position, count = _class_and_count(one)
            classes[position] = classes.get(position, 0) + count * times

    def stored_times(self) -> str:
        return " ".join(f"{one}:{count}" for one, count in sorted(self.classes.items()) if count > 0)

    def sums(self, group: str) -> Sums:
        p50, p95 = self._percentiles((0.5, 0.95))
        return Sums(
            group, self.calls, self.errors, p50, p95, self.input, self.output, self.cached, self.cost / _PICO,
            self.estimated > 0,
        )  # fmt: skip

    def _percentiles(self, shares: Sequence[float]) -> list[float]:
        """Return percentiles in ms: exact, or from classes, to which exact times are added."""
        self.add_times(self.text)
        if not self.classes:
            ordered = sorted(self.times_ns)
            return [ordered[_rank(share, len(ordered))] / 1e6 for share in shares]
        self.classes.update(map(_class_of, self.times_ns))
        found: list[float] = []
        positions = sorted(self.classes)
        passed = list(accumulate(map(self.classes.__getitem__, positions)))
        for share in shares:
            at = bisect_right(passed, _rank(share, self.calls))
            found.append(math.exp((positions[min(at, len(positions) - 1)] + 0.5) / _PER_E) / 1e6)
        return found


@lru_cache(4_096)
def _local_hour(quarter: int) -> str:
    # The offsets of time zones are whole quarters of an hour.
    return f"{datetime.fromtimestamp(quarter * 900):%Y-%m-%d %H:00}"  # noqa: DTZ006 - days are local


@lru_cache(16_384)
def _class_and_count(text: str) -> tuple[int, int]:
    position, _, count = text.partition(":")
    return int(position), int(count)


def _rank(share: float, count: int) -> int:
    return min(int(count * share), count - 1)


def _class_of(duration_ns: int) -> int:
    return int(math.log(max(duration_ns, 1)) * _PER_E)


def key_text(value: object) -> str:
    """Return the value of a custom key as it is filtered by."""
    return (value if isinstance(value, str) else json_codec.encode(value))[:_MAX_KEY_VALUE]


def day_begin(at_ns: int) -> int:
    """Return the beginning of the local day."""
    at = datetime.fromtimestamp(at_ns // _NS_PER_S)  # noqa: DTZ006 - days are local
    return int(datetime(at.year, at.month, at.day).timestamp()) * _NS_PER_S  # noqa: DTZ001


def count_calls(database: sqlite3.Connection, calls: Iterable[Call], sign: int = 1) -> None:
    """Add ``calls`` to their cells; with ``sign`` -1 subtract them."""
    cells: dict[tuple[str, str, str], _Cell] = {}
    for call in calls:
        position = _class_of(call.end_ns - call.start_ns)
        [day] = call.values(DAY)
        for key in (DAY, HOUR, STATUS, *_COLUMNS, *call.own_keys()):
            for value in call.values(key):
                cell = cells.setdefault((key, day, value), _Cell())
                cell.add(call, sign)
                cell.classes[position] += sign
    for where, cell in cells.items():
        statement = f"SELECT {', '.join(_ADDED)}, times FROM sums WHERE key = ? AND day = ? AND value = ?"  # noqa: S608 - constants
        for *sums, times in database.execute(statement, where):
            cell.add_sums(sums)
            cell.add_times(times)
        if cell.calls > 0:
            row = (
                cell.calls,
                cell.errors,
                cell.input,
                cell.output,
                cell.cached,
                cell.cost,
                cell.estimated,
                cell.stored_times(),
            )
            database.execute("INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*where, *row))
        else:
            database.execute("DELETE FROM sums WHERE key = ? AND day = ? AND value = ?", where)


def totals(
    database: sqlite3.Connection, by: str, since_ns: int, wanted: Sequence[tuple[str, str]], limit: int
) -> list[Sums]:
    """Return the sums of the calls since ``since_ns`` that have all values of ``wanted``, by their values of ``by``.

    Of more than ``limit`` groups those with the highest cost are returned; of days and hours the newest, in order.
    """
    cells = _Cells.of(database, by, since_ns, wanted)
    groups = cells.sums(limit if cells.begin_ns <= since_ns and by not in (DAY, HOUR) else -1) if cells else {}
    for call in _calls(database, since_ns, cells.begin_ns if cells else _NEVER_NS, wanted):
        for name in call.values(by):
            group = groups.setdefault(name, _Cell())
            group.add(call)
            group.times_ns.append(max(call.end_ns - call.start_ns, 0))
    names = sorted(groups)
    names = (
        names[-limit:] if by in (DAY, HOUR) else sorted(names, key=lambda one: (-groups[one].cost, -groups[one].calls))
    )
    return [groups[name].sums(name) for name in names[:limit]]


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of whole days of one question: those of one key, or by day those of one value."""

    database: sqlite3.Connection
    group: str
    condition: str
    values: Sequence[str]
    begin_ns: int
    """Calls from here on are in the cells."""

    @classmethod
    def of(cls, database: sqlite3.Connection, by: str, since_ns: int, wanted: Sequence[tuple[str, str]]) -> Self | None:
        """Return the cells that answer the question; None if the calls must be read, or are few."""
        few = "SELECT count(*) FROM (SELECT 1 FROM spans WHERE is_call AND start_ns >= ? LIMIT ?)"
        if len(wanted) > (by == DAY) or database.execute(few, (since_ns, _EXACT + 1)).fetchone()[0] <= _EXACT:
            return None
        day, begin_ns = "", 0
        if since_ns > 0:
            begin_ns = day_begin(since_ns)
            if begin_ns < since_ns:
                # The day in which the time begins is read call by call.
                begin_ns = day_begin(begin_ns + _DAY_AND_A_HALF_NS)
            day = str(datetime.fromtimestamp(begin_ns // _NS_PER_S))[:10]  # noqa: DTZ006 - days are local
        if wanted:
            return cls(database, "day", "key = ? AND value = ? AND day >= ?", (*wanted[0], day), begin_ns)
        return cls(database, "value", "key = ? AND day >= ?", (by, day), begin_ns)

    def sums(self, limit: int) -> dict[str, _Cell]:
        """Return the groups of the highest cost, -1 for all, with their sums; times are text until they are needed."""
        added = ", ".join(f"sum({one})" for one in _ADDED)
        statement = (
            f"SELECT {self.group}, group_concat(times, ' '), {added} FROM sums WHERE {self.condition}"  # noqa: S608 - constants
            f" GROUP BY {self.group} ORDER BY sum(cost) DESC, sum(calls) DESC, {self.group} LIMIT ?"
        )
        groups: dict[str, _Cell] = {}
        for name, times, *sums in self.database.execute(statement, (*self.values, limit)):
            groups[name] = _Cell(text=times)
            groups[name].add_sums(sums)
        return groups


def _calls(
    database: sqlite3.Connection, since_ns: int, until_ns: int, wanted: Sequence[tuple[str, str]]
) -> Iterable[Call]:
    index, conditions = "calls_by_start", [f"{_COLUMNS[key]} = ?" for key, _ in wanted if key in _COLUMNS]
    values = [value for key, value in wanted if key in _COLUMNS]
    # Few traces have a rare value: their calls are read instead of those of the whole time.
    for one in wanted:
        rows = database.execute("SELECT trace_id FROM keys WHERE key = ? AND value = ? LIMIT ?", (*one, _RARE + 1))
        if len(traces := [trace_id for (trace_id,) in rows]) <= _RARE:
            index = "spans_by_trace"
            conditions.append("trace_id IN (SELECT value FROM json_each(?))")
            values.append(json_codec.encode(traces))
            break
    condition = "".join(f" AND {one}" for one in conditions)
    statement = (
        f"SELECT {CALL} FROM spans INDEXED BY {index} WHERE is_call AND start_ns >= ? AND start_ns < ?{condition}"  # noqa: S608 - constants
    )
    others = [one for one in wanted if one[0] not in _COLUMNS]
    for row in database.execute(statement, (since_ns, until_ns, *values)):
        call = Call(*row)
        if all(value in call.values(key) for key, value in others):
            yield call
