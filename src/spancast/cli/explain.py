"""``spancast explain``: the delivery state of a trace at every destination."""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from spancast.cli.command import OK, CommandError, Commands, add_command
from spancast.cli.formatting import as_json, iso, moment, number, why_dropped
from spancast.cli.naming import Naming, shortened
from spancast.cli.options import NoSpoolError, add_spool_options, configured, is_json, opened_spool, store_beside
from spancast.cli.spool import queue_status, state_data
from spancast.cli.terminal import ERROR, FAINT, GOOD, HEADING, WARNING, Line, cut, folded, show
from spancast.cli.traces import found_id
from spancast.encoding.span_data import read_record
from spancast.encoding.tree_view import printable
from spancast.export.filtering import REASON_CATEGORY
from spancast.export.spool.protocol import DeliveryState, QueueStats, RecordHistory, Spool
from spancast.model.span_ids import trace_id_of

_TRACE_ID_BYTES: Final = 16
_MAX_SPANS: Final = 4
_MAX_NAME_LENGTH: Final = 30
_UNKNOWN: Final = (
    "no trace {trace_id} in the spool {path}, and none in the local store."
    " Possible reasons: another trace id or another program; not sampled;"
    " another spool (pass --spool DIR; a spool in memory ends with its process);"
    " removed because of the spool's max_age or max_bytes"
)


def add_commands(commands: Commands) -> None:
    """Add ``explain``."""
    explain = add_command(
        commands,
        "explain",
        "show where the spans of a trace are: delivered, queued, refused, filtered or dropped, and why",
        "spancast explain 3f2a9c01",
        "It reads the spool, where spans wait for their destinations, and the local store.",
    )
    add_spool_options(explain)
    explain.add_argument(
        "trace_id", metavar="TRACE_ID", help="an id of `spancast traces`, or the trace_id that your code gave"
    )
    explain.set_defaults(run=_explain)


def _explain(args: argparse.Namespace) -> int:
    destinations = configured(args, is_needed=False)
    stored = _stored(args)
    try:
        with opened_spool(args) as spool:
            trace_id, found = _find(args, spool, stored)
            names = {record.span_id: read_record(record).name for record in spool.records(trace_id, found)}
            naming = Naming(spool.routes(), destinations)
            states = {naming.shown(key): spool.state(key) for key in naming.routes}
            found = [replace(one, states=renamed(one.states, naming)) for one in found]
            path, _ = spool.location()
    except NoSpoolError as error:
        if stored is None:
            raise
        path, no_spool = "", str(error)
        trace_id, found, names, states = stored.trace_id, [], {}, {}
    else:
        no_spool = ""
    if stored is not None and stored.trace_id != trace_id:
        stored = None
    if is_json(args):
        print(as_json(_as_data(trace_id, found, names, states, stored)))
        return OK
    title = Text().append(trace_id.hex(), HEADING)
    if args.trace_id != trace_id.hex():
        title.append(f" ({cut(args.trace_id, 40)})")
    show([title])
    if found:
        show([f"{number(len(found), 'span')} in {path}", ""])
        show(_lines({**{name: {} for name in destinations}, **_by_destination(found)}, len(found), names, states))
    if stored is not None:
        show(_store_lines(stored, no_spool if destinations else ""))
    return OK


@dataclass(frozen=True, slots=True)
class _Stored:
    """A trace in the local store."""

    path: Path
    trace_id: bytes
    spans: int


def _stored(args: argparse.Namespace) -> _Stored | None:
    store = store_beside(args)
    try:
        found = None if store is None else found_id(store, args.trace_id)
        if store is None or found is None:
            return None
        return _Stored(store.path, bytes.fromhex(found), len(store.trace(found)))
    except sqlite3.Error:
        return None


def _store_lines(stored: _Stored, no_spool: str) -> Iterator[Line]:
    yield ""
    yield from folded(f"the local store has {number(stored.spans, 'span')} of this trace: {stored.path}", "  ", "")
    if no_spool:
        yield from folded(f"nothing is known of other destinations: {no_spool}", "  ", "")


def renamed(fates: Sequence[DeliveryState], naming: Naming) -> tuple[DeliveryState, ...]:
    """Return ``fates`` with the names of destinations in the CLI."""
    # A destination of another program is left out unless it received or will receive the record.
    return tuple(
        replace(entry, route=naming.shown(entry.route))
        for entry in fates
        if entry.state != "absent" or not naming.is_elsewhere(entry.route)
    )


def _find(args: argparse.Namespace, spool: Spool, stored: _Stored | None) -> tuple[bytes, list[RecordHistory]]:
    # Hex digits may be upper case; a caller's id may not be changed.
    given = [trace_id_of(text).to_bytes(_TRACE_ID_BYTES, "big") for text in (args.trace_id, args.trace_id.lower())]
    ids: list[bytes] = [*given, *([stored.trace_id] if stored else [])]
    for trace_id in dict.fromkeys(ids):
        found = spool.history(trace_id)
        if found:
            return trace_id, found
    if stored is not None:
        return stored.trace_id, []
    raise CommandError(_UNKNOWN.format(path=spool.location()[0], trace_id=repr(args.trace_id)))


@dataclass(slots=True)
class _Group:
    """Spans of one trace with the same state at one destination; ``at_s`` is the latest time, 0 if unknown."""

    found: list[RecordHistory] = field(default_factory=list[RecordHistory])
    at_s: float = 0.0


_STYLES: Final[Mapping[str, str]] = {
    "delivered": GOOD, "queued": WARNING, "dead-lettered": ERROR, "dropped": ERROR,
}  # fmt: skip
_State = tuple[str, str]
"""A delivery state as shown to the user, and its reason or an empty text."""


def _by_destination(found: Sequence[RecordHistory]) -> dict[str, dict[_State, _Group]]:
    groups: dict[str, dict[_State, _Group]] = {}
    for one in found:
        for entry in one.states:
            group = groups.setdefault(entry.route, {}).setdefault(shown_state(entry), _Group())
            group.found.append(one)
            group.at_s = max(group.at_s, entry.at_s)
    return groups


def shown_state(entry: DeliveryState) -> _State:
    """Return a delivery state as the user sees it, and its reason."""
    match entry.state:
        case "waiting":
            return "queued", ""
        case "skipped":
            is_sampled_out = REASON_CATEGORY.get(entry.reason) == "sampled_out"
            return ("sampled out" if is_sampled_out else "filtered"), entry.reason
        case "buried":
            return "dead-lettered", entry.reason
        case "dropped":
            return "dropped", why_dropped(entry.reason)
        case "absent":
            return "not configured", ""
        case "delivered":
            return "delivered", ""


def _lines(
    destinations: Mapping[str, Mapping[_State, _Group]],
    count: int,
    names: Mapping[bytes, str],
    states: Mapping[str, QueueStats],
) -> Iterator[Line]:
    room = min(max((len(name) for name in destinations), default=0), _MAX_NAME_LENGTH)
    for name, groups in destinations.items():
        indent, heading = " " * (room + 4), f"{shortened(name, room):<{room}}  "
        if not groups:
            yield Text(heading).append("not configured", FAINT)
        for state, group in groups.items():
            text = _sentence(state, group, states.get(name))
            # Spans are named only if they differ in state.
            spans = "" if len(group.found) == count else f" [{_span_names(group.found, names)}]"
            line = Text(printable(text + spans))
            line.stylize(_STYLES.get(state[0], ""), 0, len(state[0]))
            yield from folded(line, indent, heading)
            heading = " " * (room + 2)


def _sentence(state: _State, group: _Group, stats: QueueStats | None) -> str:
    shown, reason = state
    now_s = time.time()
    if shown == "queued" and stats is not None:
        return f"queued: {queue_status(stats, now_s)}"
    when = f" {moment(group.at_s, now_s)}" if group.at_s else ""
    return f"{shown}{when}{f': {reason}' if reason not in ('', shown) else ''}"


def _span_names(found: Sequence[RecordHistory], names: Mapping[bytes, str]) -> str:
    spans = [cut(names.get(one.span_id, one.span_id.hex()), _MAX_NAME_LENGTH) for one in found[:_MAX_SPANS]]
    more = ", …" if len(found) > _MAX_SPANS else ""
    return f"{number(len(found), 'span')}: {', '.join(spans)}{more}"


def _identifier(state: str) -> str:
    return state.replace(" ", "_").replace("-", "_")


def _as_data(
    trace_id: bytes,
    found: Sequence[RecordHistory],
    names: Mapping[bytes, str],
    states: Mapping[str, QueueStats],
    stored: _Stored | None,
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
                "queued_at": iso(one.put_s),
                "destinations": {
                    entry.route: {"state": _identifier(state), "reason": reason, "at": iso(entry.at_s)}
                    for entry in one.states
                    for state, reason in (shown_state(entry),)
                },
            }
            for one in found
        ],
        "destinations": {name: state_data(state) for name, state in states.items()},
        "local_store": None if stored is None else {"path": str(stored.path), "spans": stored.spans},
    }
