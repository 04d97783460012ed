"""``spancast explain``: what became of a trace at every destination."""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from spancast.cli.command import FINE, CommandError, Commands
from spancast.cli.formatting import as_json, cut, folded, iso, moment, number, why_dropped
from spancast.cli.naming import Naming, shortened
from spancast.cli.options import add_spool_options, configured, is_json, opened_spool, store_beside
from spancast.cli.spool import state_data, waits
from spancast.cli.traces import full_id
from spancast.encoding.span_data import read_record
from spancast.export.filtering import REASON_CATEGORY
from spancast.export.spool.protocol import DeliveryState, QueueStats, RecordHistory, Spool
from spancast.tracing.id_generator import trace_id_of

_TRACE_ID_BYTES: Final = 16
_NAMED: Final = 4
_LONGEST_NAME: Final = 30
_UNKNOWN: Final = (
    "the spool {path} knows no trace {given}. Either it was never handed over (another trace id, not sampled, another"
    " program), or it is in another spool (`--spool DIR`; one in memory ends with its process), or it is older than the"
    " spool's max_age or was pushed out by max_bytes: delivered spans are kept only until then"
)


def add_commands(commands: Commands) -> None:
    """Add ``explain``."""
    explain = commands.add_parser("explain", help="tell what became of a trace at every destination")
    add_spool_options(explain)
    explain.add_argument("trace_id", metavar="TRACE_ID", help="as you gave it, or 32 hex digits")
    explain.set_defaults(run=_explain)


def _explain(given: argparse.Namespace) -> int:
    wanted = configured(given, is_needed=False)
    with opened_spool(given) as spool:
        trace_id, found = _found(given, spool)
        names = {record.span_id: read_record(record).name for record in spool.records(trace_id)}
        naming = Naming(spool.routes(), wanted)
        states = {naming.shown(key): spool.state(key) for key in naming.routes}
        found = [replace(one, states=_named(one.states, naming)) for one in found]
        path = spool.usage().path
    if is_json(given):
        print(as_json(_as_data(trace_id, found, names, states)))
        return FINE
    as_given = "" if given.trace_id == trace_id.hex() else f" ({cut(given.trace_id, 40)})"
    print(f"{trace_id.hex()}{as_given}\n{number(len(found), 'span')} in {path}\n")
    fates = {**{name: {} for name in wanted}, **_by_destination(found)}
    for line in _told(fates, len(found), names, states):
        print(line)
    return FINE


def _named(fates: Sequence[DeliveryState], naming: Naming) -> tuple[DeliveryState, ...]:
    # Another program's destination is listed only if it has to do with the record.
    return tuple(
        replace(fate, route=naming.shown(fate.route))
        for fate in fates
        if fate.state != "absent" or not naming.is_elsewhere(fate.route)
    )


def _found(given: argparse.Namespace, spool: Spool) -> tuple[bytes, list[RecordHistory]]:
    for trace_id in _candidates(given):
        found = spool.history(trace_id)
        if found:
            return trace_id, found
    raise CommandError(_UNKNOWN.format(path=spool.usage().path, given=repr(given.trace_id)))


def _candidates(given: argparse.Namespace) -> Iterator[bytes]:
    """Yield what the trace id may mean: by the rule for ids, hex digits written otherwise, the store's beginning."""
    text = given.trace_id
    yield trace_id_of(text).to_bytes(_TRACE_ID_BYTES, "big")
    yield trace_id_of(text.lower()).to_bytes(_TRACE_ID_BYTES, "big")
    store = store_beside(given)
    if store is not None:
        try:
            yield bytes.fromhex(full_id(store, text))
        except (CommandError, sqlite3.Error):
            return


@dataclass(slots=True)
class _Group:
    """Spans of one trace that share their fate at one destination."""

    found: list[RecordHistory] = field(default_factory=list[RecordHistory])
    at_s: float = 0.0


_Told = tuple[str, str]
"""A fate in words, and why."""


def _by_destination(found: Sequence[RecordHistory]) -> dict[str, dict[_Told, _Group]]:
    fates: dict[str, dict[_Told, _Group]] = {}
    for one in found:
        for fate in one.states:
            group = fates.setdefault(fate.route, {}).setdefault(_words(fate), _Group())
            group.found.append(one)
            group.at_s = max(group.at_s, fate.at_s)
    return fates


def _words(fate: DeliveryState) -> _Told:
    match fate.state:
        case "skipped":
            return _skipped(fate.reason)
        case "buried":
            return "refused", fate.reason
        case "dropped":
            return "dropped", why_dropped(fate.reason)
        case "absent":
            return "not configured then", ""
        case _:
            return fate.state, ""


def _skipped(reason: str) -> _Told:
    counted = REASON_CATEGORY.get(reason, "filtered")
    if counted == "sampled_out":
        return "sampled out", "" if reason == "sampled out" else reason
    return ("not sent" if counted == "not_llm" else counted), reason


def _told(
    fates: Mapping[str, Mapping[_Told, _Group]],
    count: int,
    names: Mapping[bytes, str],
    states: Mapping[str, QueueStats],
) -> Iterator[str]:
    room = min(max((len(name) for name in fates), default=0), _LONGEST_NAME)
    for name, groups in fates.items():
        indent, heading = " " * (room + 4), f"{shortened(name, room):<{room}}  "
        if not groups:
            yield f"{heading}not configured then"
        for words, group in groups.items():
            text = _sentence(words, group, states.get(name))
            # One line says it where all spans share the fate.
            which = "" if len(group.found) == count else f" [{_which(group.found, names)}]"
            yield folded(text + which, indent, heading)
            heading = " " * (room + 2)


def _sentence(words: _Told, group: _Group, state: QueueStats | None) -> str:
    told, why = words
    now_s = time.time()
    if told == "waiting" and state is not None:
        return f"waiting: {waits(state, now_s)}"
    when = f" {moment(group.at_s, now_s)}" if group.at_s else ""
    return f"{told}{when}{f': {why}' if why else ''}"


def _which(found: Sequence[RecordHistory], names: Mapping[bytes, str]) -> str:
    told = [cut(names.get(one.span_id, one.span_id.hex()), _LONGEST_NAME) for one in found[:_NAMED]]
    more = ", …" if len(found) > _NAMED else ""
    return f"{number(len(found), 'span')}: {', '.join(told)}{more}"


def _as_data(
    trace_id: bytes, found: Sequence[RecordHistory], names: Mapping[bytes, str], states: Mapping[str, QueueStats]
) -> dict[str, Any]:
    return {
        "trace_id": trace_id.hex(),
        "spans": [
            {
                "sequence": one.sequence,
                "span_id": one.span_id.hex(),
                "parent_span_id": one.parent_span_id.hex(),
                "name": names.get(one.span_id),
                "is_genai": one.is_genai,
                "put": iso(one.put_s),
                "destinations": {
                    fate.route: {"fate": _words(fate)[0], "reason": _words(fate)[1], "at": iso(fate.at_s)}
                    for fate in one.states
                },
            }
            for one in found
        ],
        "destinations": {name: state_data(state) for name, state in states.items()},
    }
