"""``spancast spool``: the queue, dead letters and dropped spans of every destination, and commands that change them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from rich.text import Text

from spancast.cli import spool_send
from spancast.cli.command import FAILED, OK, USAGE_ERROR, CommandError, Commands, add_command
from spancast.cli.formatting import as_json, iso, lapse, moment, number, size, why_dropped
from spancast.cli.naming import Naming, shortened
from spancast.cli.options import add_spool_options, configured, is_json, opened_spool
from spancast.cli.terminal import ERROR, HEADING, WARNING, Line, columns, folded, show
from spancast.encoding.tree_view import printable
from spancast.export.spool.protocol import DeadLetter, QueueStats, Spool, SpoolUsage, route_name

_DEFAULT_LIMIT: Final = 20
_HEADING: Final = ("DESTINATION", "QUEUED", "DEAD-LETTERED", "DROPPED", "DELIVERED", "LAST DELIVERY")
_MAX_NAME_LENGTH: Final = 22
_OTHER_ACCOUNT: Final = (
    "for {name} of another program, or of this one before its address or account changed; sent only there."
    " `spancast spool replay {name} --from` sends them to the current {name}, `spancast spool purge` drops them"
)
_DUE: Final = "due now for `spancast spool flush` or any process that has this destination"


def add_commands(commands: Commands) -> None:
    """Add ``spool`` and its subcommands; without a subcommand it shows the spool."""
    spool = add_command(
        commands,
        "spool",
        "show what waits for each destination, was refused or was dropped, and why; send it again",
        "spancast spool requeue langfuse",
        "The spool is a queue on disk. Without SUBCOMMAND it is shown. A dead letter is a span that a destination"
        " refused for good.",
    )
    add_spool_options(spool)
    spool.add_argument(
        "--limit",
        type=int,
        default=_DEFAULT_LIMIT,
        metavar="N",
        help=f"maximum number of dead letters and of dropped spans in the list; default: {_DEFAULT_LIMIT}",
    )
    spool.set_defaults(run=_show)
    subcommands = spool.add_subparsers(metavar="SUBCOMMAND", title="subcommands")
    spool_send.add_commands(subcommands)
    purge = add_command(
        subcommands,
        "purge",
        "drop the spans that wait for a destination, or single spans",
        "spancast spool purge langfuse",
        "They are not sent there any more, and counted as dropped.",
    )
    add_spool_options(purge)
    spool_send.add_words(purge, "all queued spans", is_destination_required=True)
    purge.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    purge.set_defaults(run=_purge)


def _show(args: argparse.Namespace) -> int:
    with opened_spool(args) as spool:
        naming = Naming(spool.routes(), configured(args, is_needed=False))
        states = {naming.shown(key): spool.state(key) for key in naming.routes}
        limit = max(args.limit, 0)
        dead_letters, dropped = (
            [replace(one, route=naming.shown(one.route)) for one in several]
            for several in (spool.dead_letters(limit=limit), spool.dropped(limit=limit))
        )
        usage = spool.usage()
    if is_json(args):
        print(as_json(_as_data(usage, states, dead_letters, dropped)))
        return OK
    show(_overview(usage, states, dead_letters, dropped, naming))
    return OK


def _overview(
    usage: SpoolUsage,
    states: Mapping[str, QueueStats],
    dead_letters: Sequence[DeadLetter],
    dropped: Sequence[DeadLetter],
    naming: Naming,
) -> Iterator[Line]:
    now_s = time.time()
    yield Text(printable(usage.path), HEADING)
    age = f", the oldest {lapse(now_s - usage.oldest_s)} old" if usage.oldest_s else ""
    yield f"{number(usage.records, 'span')} stored{age}; {size(usage.bytes_on_disk)} on disk"
    if not states:
        yield ""
        yield "No destination has used this spool yet."
        return
    yield ""
    rows = [_row(name, state, now_s) for name, state in states.items()]
    yield from columns([_HEADING, *rows], right=range(1, len(_HEADING) - 1), last=0, optional=(5, 4))
    notes = [line for name, state in states.items() for line in _note(name, state, naming, now_s)]
    if notes:
        yield ""
        yield from notes
    counts = sum(state.dead_lettered for state in states.values()), sum(state.dropped for state in states.values())
    yield from _listed(dead_letters, "dead-lettered", "; `spancast spool requeue` sends them again", counts[0], now_s)
    yield from _listed(dropped, "dropped", "", counts[1], now_s)


def _row(name: str, state: QueueStats, now_s: float) -> tuple[Line, ...]:
    return (
        shortened(name, _MAX_NAME_LENGTH),
        Text(f"{state.queued:,}", WARNING if state.queued else ""),
        Text(f"{state.dead_lettered:,}", ERROR if state.dead_lettered else ""),
        Text(f"{state.dropped:,}", ERROR if state.dropped else ""),
        f"{state.delivered:,}",
        moment(state.last_delivered_s, now_s) if state.last_delivered_s else "never",
    )


def _note(name: str, state: QueueStats, naming: Naming, now_s: float) -> Iterator[Line]:
    if reason := why_queued(name, state, naming, now_s):
        yield from folded(f"{size(state.queued_bytes)} queued, {reason}", "  ", f"{name}: ")


def why_queued(name: str, state: QueueStats, naming: Naming, now_s: float) -> str:
    """Return why spans wait for the destination ``name``, empty if none does."""
    if not state.queued:
        return ""
    if naming.configured and naming.is_elsewhere(name):
        return _OTHER_ACCOUNT.format(name=route_name(name))
    if naming.configured and name not in naming.configured:
        return "no enabled destination of the configuration has this name"
    return queue_status(state, now_s)


def queue_status(state: QueueStats, now_s: float) -> str:
    """Return the number of failed attempts of the oldest batch, when the next one is due, and the last error."""
    if not state.attempts:
        return "no attempt yet"
    next_attempt = f"next in {lapse(state.due_s - now_s)}" if state.due_s > now_s else _DUE
    return f"{number(state.attempts, 'failed attempt')}, {next_attempt}: {state.last_error}"


def _listed(spans: Sequence[DeadLetter], state: str, advice: str, count: int, now_s: float) -> Iterator[Line]:
    if not spans:
        return
    newest = f" (the newest {len(spans)})" if count > len(spans) else ""
    # The list of dropped spans includes evicted dead letters, which `count` has among the dead letters.
    yield ""
    yield from folded(f"{number(max(count, len(spans)), f'{state} span')}{newest}{advice}:")
    by_reason: dict[tuple[str, str], dict[str, list[DeadLetter]]] = {}
    for one in spans:
        by_reason.setdefault((one.route, one.reason), {}).setdefault(one.trace_id, []).append(one)
    for (name, reason), traces in by_reason.items():
        yield ""
        yield from folded(why_dropped(reason), "  ", Text(f"{printable(name)}: ", ERROR))
        rows = [
            (f"  {moment(of_trace[0].at_s, now_s)}", trace_id, _ranges([one.sequence for one in of_trace]))
            for trace_id, of_trace in traces.items()
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
    usage: SpoolUsage,
    states: Mapping[str, QueueStats],
    dead_letters: Sequence[DeadLetter],
    dropped: Sequence[DeadLetter],
) -> dict[str, Any]:
    return {
        "path": usage.path,
        "spans": usage.records,
        "bytes_on_disk": usage.bytes_on_disk,
        "oldest": iso(usage.oldest_s),
        "error": usage.error,
        "destinations": {name: state_data(state) for name, state in states.items()},
        "dead_letters": _list_data(dead_letters),
        "dropped": _list_data(dropped),
    }


def _list_data(spans: Sequence[DeadLetter]) -> list[dict[str, Any]]:
    return [
        {
            "sequence": one.sequence,
            "destination": one.route,
            "trace_id": one.trace_id,
            "span_id": one.span_id,
            "reason": one.reason,
            "at": iso(one.at_s),
        }
        for one in spans
    ]


def state_data(state: QueueStats) -> dict[str, Any]:
    """Return ``state`` as JSON data."""
    return {
        "queued": state.queued,
        "queued_bytes": state.queued_bytes,
        "dead_lettered": state.dead_lettered,
        "dropped": state.dropped,
        "delivered": state.delivered,
        "last_delivery": iso(state.last_delivered_s),
        "attempts": state.attempts,
        "next_attempt": iso(state.due_s),
        "last_error": state.last_error,
    }


def _purge(args: argparse.Namespace) -> int:
    destination, sequences = spool_send.words_of(args)
    if destination is None:
        raise CommandError(f"expected the NAME of a destination first, got {args.destination!r}", USAGE_ERROR)
    with opened_spool(args) as spool:
        route = Naming(spool.routes(), configured(args, is_needed=False)).route(destination)
        selection = _selection(spool, route, sequences)
        if not selection:
            nothing = {"destination": destination, "purged": 0}
            print(as_json(nothing) if is_json(args) else f"{destination}: no span is queued")
            return OK
        if not args.yes and not _is_confirmed(f"Purge {selection} of {destination}?"):
            print("no span was purged", file=sys.stderr)
            return FAILED
        count = spool.purge(route, sequences)
    if is_json(args):
        print(as_json({"destination": destination, "purged": count}))
    else:
        print(f"{destination}: {number(count, 'span')} purged")
    return OK if count else FAILED


def _selection(spool: Spool, route: str, sequences: Sequence[int] | None) -> str:
    if sequences:
        return number(len(set(sequences)), "span")
    queued = spool.state(route).queued
    return number(queued, "queued span") if queued else ""


def _is_confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise CommandError("stdin is not a terminal; pass --yes to confirm", USAGE_ERROR)
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
