"""``spancast spool``: what waits for every destination, what was refused or dropped and why; what to do about it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from spancast.cli import spool_send
from spancast.cli.command import FAILED, FINE, WRONG_USE, CommandError, Commands
from spancast.cli.formatting import as_json, columns, folded, iso, lapse, moment, number, size, why_dropped
from spancast.cli.naming import Naming, shortened
from spancast.cli.options import add_spool_options, configured, is_json, opened_spool
from spancast.export.spool.protocol import DeadLetter, QueueStats, Spool, SpoolUsage, route_name

_LISTED: Final = 20
_HEADING: Final = ("DESTINATION", "WAITING", "SIZE", "REFUSED", "DROPPED", "DELIVERED", "LAST")
_LONGEST_NAME: Final = 22
_ELSEWHERE: Final = (
    "for {name} of another program, or of this one before its address or account changed; sent only there."
    " `spancast spool replay --from` sends it to the present one, `drop` gives it up"
)
_DUE: Final = "due now for any process that has this destination (`spancast spool deliver`, too)"


def add_commands(commands: Commands) -> None:
    """Add ``spool`` with its subcommands; without one it shows what is there."""
    spool = commands.add_parser(
        "spool", help="show what waits for each destination and what was refused; send it again"
    )
    add_spool_options(spool)
    listed = "how many refused and dropped spans to list"
    spool.add_argument("--limit", type=int, default=_LISTED, metavar="N", help=listed)
    spool.set_defaults(run=_show)
    below = spool.add_subparsers(metavar="SUBCOMMAND")
    spool_send.add_commands(below)
    drop = below.add_parser("drop", help="give up what waits for a destination, or single spans, waiting or refused")
    add_spool_options(drop)
    drop.add_argument("--to", required=True, metavar="NAME", help="the destination")
    drop.add_argument("--yes", action="store_true", help="do not ask")
    spool_send.add_sequences(drop, "all that waits")
    drop.set_defaults(run=_drop)


def _show(given: argparse.Namespace) -> int:
    with opened_spool(given) as spool:
        naming = Naming(spool.routes(), configured(given, is_needed=False))
        states = {naming.shown(key): spool.state(key) for key in naming.routes}
        limit = max(given.limit, 0)
        refused, dropped = (
            [replace(one, route=naming.shown(one.route)) for one in several]
            for several in (spool.dead_letters(limit=limit), spool.dropped(limit=limit))
        )
        held = spool.usage()
    if is_json(given):
        print(as_json(_as_data(held, states, refused, dropped)))
        return FINE
    print("\n".join(_told(held, states, refused, dropped, naming)))
    return FINE


def _told(
    held: SpoolUsage,
    states: Mapping[str, QueueStats],
    refused: Sequence[DeadLetter],
    dropped: Sequence[DeadLetter],
    naming: Naming,
) -> Iterator[str]:
    now_s = time.time()
    yield held.path
    age = f", the oldest {lapse(now_s - held.oldest_s)} old" if held.oldest_s else ""
    yield f"{number(held.records, 'span')} kept{age}; {size(held.bytes_on_disk)} on disk"
    if not states:
        yield "\nNo destination has used it yet."
        return
    yield ""
    rows = [_row(name, state, now_s) for name, state in states.items()]
    yield from columns([_HEADING, *rows], right=range(1, len(_HEADING) - 1))
    notes = [note for name, state in states.items() if (note := _note(name, state, naming, now_s))]
    if notes:
        yield ""
        yield from notes
    counts = sum(state.dead_lettered for state in states.values()), sum(state.dropped for state in states.values())
    yield from _listed(refused, "refused", "; `spancast spool retry` sends them again", counts[0], now_s)
    yield from _listed(dropped, "dropped", "", counts[1], now_s)


def _row(name: str, state: QueueStats, now_s: float) -> tuple[str, ...]:
    return (
        shortened(name, _LONGEST_NAME),
        f"{state.queued:,}",
        size(state.queued_bytes) if state.queued else "-",
        f"{state.dead_lettered:,}",
        f"{state.dropped:,}",
        f"{state.delivered:,}",
        moment(state.last_delivered_s, now_s) if state.last_delivered_s else "never",
    )


def _note(name: str, state: QueueStats, naming: Naming, now_s: float) -> str:
    if not state.queued:
        return ""
    told = waits(state, now_s)
    if naming.configured and naming.is_elsewhere(name):
        told = _ELSEWHERE.format(name=route_name(name))
    elif naming.configured and name not in naming.configured:
        told = "no enabled destination of the configuration has this name"
    return folded(told, "  ", f"{name}: ")


def waits(state: QueueStats, now_s: float) -> str:
    """Return why something waits and until when."""
    if not state.attempts:
        return "not tried yet"
    again = f"next try in {lapse(state.due_s - now_s)}" if state.due_s > now_s else _DUE
    return f"tried {number(state.attempts, 'time')}, {again}: {state.last_error}"


def _listed(given_up: Sequence[DeadLetter], what: str, advice: str, count: int, now_s: float) -> Iterator[str]:
    if not given_up:
        return
    more = f" (the newest {len(given_up)})" if count > len(given_up) else ""
    # What was refused, and pushed out since, is listed though it was counted as refused.
    yield f"\n{number(max(count, len(given_up)), f'{what} span')}{more}{advice}:"
    alike: dict[tuple[str, str], dict[str, list[DeadLetter]]] = {}
    for one in given_up:
        alike.setdefault((one.route, one.reason), {}).setdefault(one.trace_id, []).append(one)
    for (name, reason), traces in alike.items():
        yield "\n" + folded(why_dropped(reason), "  ", f"{name}: ")
        rows = [
            (f"  {moment(several[0].at_s, now_s)}", trace_id, _ranges([one.sequence for one in several]))
            for trace_id, several in traces.items()
        ]
        yield from columns([("  WHEN", "TRACE", "SEQ"), *rows], last=2)


def _ranges(sequences: Sequence[int]) -> str:
    """Return ``1-4 7`` of 1, 2, 3, 4, 7."""
    ranges: list[list[int]] = []
    for sequence in sorted(sequences):
        if ranges and sequence == ranges[-1][1] + 1:
            ranges[-1][1] = sequence
        else:
            ranges.append([sequence, sequence])
    return " ".join(str(first) if first == end else f"{first}-{end}" for first, end in ranges)


def _as_data(
    held: SpoolUsage, states: Mapping[str, QueueStats], refused: Sequence[DeadLetter], dropped: Sequence[DeadLetter]
) -> dict[str, Any]:
    return {
        "path": held.path,
        "spans": held.records,
        "bytes_on_disk": held.bytes_on_disk,
        "oldest": iso(held.oldest_s),
        "trouble": held.error,
        "destinations": {name: state_data(state) for name, state in states.items()},
        "refused": _list_data(refused),
        "dropped": _list_data(dropped),
    }


def _list_data(given_up: Sequence[DeadLetter]) -> list[dict[str, Any]]:
    return [
        {
            "sequence": one.sequence,
            "destination": one.route,
            "trace_id": one.trace_id,
            "span_id": one.span_id,
            "reason": one.reason,
            "at": iso(one.at_s),
        }
        for one in given_up
    ]


def state_data(state: QueueStats) -> dict[str, Any]:
    """Return ``state`` for a script."""
    return {
        "waiting": state.queued,
        "waiting_bytes": state.queued_bytes,
        "refused": state.dead_lettered,
        "dropped": state.dropped,
        "delivered": state.delivered,
        "last_delivered": iso(state.last_delivered_s),
        "attempts": state.attempts,
        "next_try": iso(state.due_s),
        "last_error": state.last_error,
    }


def _drop(given: argparse.Namespace) -> int:
    with opened_spool(given) as spool:
        route = Naming(spool.routes(), configured(given, is_needed=False)).route(given.to)
        sequences = spool_send.sequences_of(given)
        what = _what_to_drop(spool, route, sequences)
        if not what:
            print(f"nothing waits for {given.to}")
            return FINE
        if not given.yes and not _is_confirmed(f"Give up {what} for {given.to}?"):
            print("nothing was given up", file=sys.stderr)
            return FAILED
        count = spool.purge(route, sequences)
    if is_json(given):
        print(as_json({"destination": given.to, "dropped": count}))
    else:
        print(f"{given.to}: {number(count, 'span')} given up")
    return FINE if count else FAILED


def _what_to_drop(spool: Spool, route: str, sequences: Sequence[int] | None) -> str:
    if sequences:
        return number(len(set(sequences)), "span")
    waiting = spool.state(route).queued
    return f"{number(waiting, 'span')} waiting" if waiting else ""


def _is_confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise CommandError("nobody here to be asked; `--yes` does it without asking", WRONG_USE)
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
