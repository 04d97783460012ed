"""``spancast spool deliver``, ``retry`` and ``replay``: what waits, was refused or is past is sent now.

The command sends by itself, with the destinations of the configuration: a process that has the
same ones may run beside it (only one of them sends at a time) or not run at all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from spancast.cli.command import FAILED, FINE, WRONG_USE, CommandError, Commands
from spancast.cli.formatting import as_json, folded, number
from spancast.cli.naming import Naming, keys_of
from spancast.cli.options import add_spool_options, configured, is_json, opened_spool
from spancast.config.field_errors import unknown
from spancast.destinations.config import DestinationConfig
from spancast.destinations.field_types import DURATION_FORM, read_duration
from spancast.encoding.span_data import read_record
from spancast.export.filtering import DestinationFilter, TraceDecisions
from spancast.export.flush_report import DestinationReport, FlushReport
from spancast.export.pipeline import ExportPipeline, routes_of
from spancast.export.record_builder import filter_fields_of
from spancast.export.spool.protocol import Spool
from spancast.model.span_record import SpanRecord
from spancast.tracing.id_generator import trace_id_of

_TIMEOUT_S: Final = 30.0
_AT_THE_END_S: Final = 5.0
_TRACE_ID_BYTES: Final = 16
_HELD: Final = "another process is sending to it, or the time was too short"
_MOST_NUMBERS: Final = 10_000


def add_commands(commands: Commands) -> None:
    """Add ``deliver``, ``retry`` and ``replay``."""
    deliver = commands.add_parser("deliver", help="send what waits, now")
    _add_options(deliver)
    deliver.set_defaults(run=_deliver)
    retry = commands.add_parser("retry", help="send refused spans again")
    _add_options(retry)
    _add_queue_option(retry)
    add_sequences(retry, "all that was refused")
    retry.set_defaults(run=_retry)
    replay = commands.add_parser("replay", help="send the past to a destination, also what it had")
    _add_options(replay, is_one=True)
    _add_queue_option(replay)
    replay.add_argument(
        "--since", required=True, type=moment_of, metavar="TIME", help="how long ago (7d), or 2026-11-20[T14:00]"
    )
    replay.add_argument("--until", type=moment_of, metavar="TIME", help="likewise; default: now")
    replay.add_argument("--trace", metavar="TRACE_ID", help="only this trace")
    replay.add_argument("--from", dest="source", metavar="NAME", help="only what waits for this other destination")
    replay.set_defaults(run=_replay)


def add_sequences(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``SEQ ...``; ``sequences_of`` reads it."""
    parser.add_argument("sequences", nargs="*", type=_range, metavar="SEQ", help=f"e.g. 7 9-12; default: {default}")


def sequences_of(given: argparse.Namespace) -> list[int] | None:
    """Return the sequences that were named, None where none was."""
    return [number for one in given.sequences for number in one] or None


def _range(text: str) -> range:
    first, _, end = text.partition("-")
    numbers = range(int(first), int(end or first) + 1)
    if not 0 < len(numbers) <= _MOST_NUMBERS:
        raise argparse.ArgumentTypeError(f"must be a number or a range of at most {_MOST_NUMBERS} such as `9-12`")
    return numbers


def _add_options(parser: argparse.ArgumentParser, *, is_one: bool = False) -> None:
    add_spool_options(parser)
    parser.add_argument("--to", metavar="NAME", required=is_one, help="the destination" if is_one else "default: all")
    parser.add_argument(
        "--timeout", type=_seconds, default=_TIMEOUT_S, metavar="TIME", help="how long it may take; default: 30s"
    )


def _add_queue_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-deliver", action="store_true", help="leave the sending to the running process")


def _seconds(text: str) -> float:
    try:
        return read_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def moment_of(text: str) -> float:
    """Return Unix seconds of how long ago, or of a date with or without a time, local where it names no zone.

    Raises:
        argparse.ArgumentTypeError: ``text`` is neither.
    """
    try:
        return time.time() - read_duration(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {DURATION_FORM}, or a date such as `2026-11-20T14:00`") from None


def _deliver(given: argparse.Namespace) -> int:
    with opened_spool(given) as spool:
        return _sent(given, spool, _chosen(given), {})


def _retry(given: argparse.Namespace) -> int:
    with opened_spool(given) as spool:
        # Asked before anything is changed: a wrong configuration must not leave half of it done.
        destinations = configured(given, is_needed=not given.no_deliver)
        naming = Naming(spool.routes(), destinations)
        sequences = sequences_of(given)
        queued = {
            naming.shown(route): count
            for route in ([naming.route(given.to)] if given.to else naming.routes)
            if (count := spool.requeue(route, sequences))
        }
        if not queued:
            raise CommandError("none of these is refused" if sequences else "nothing is refused")
        return _sent(given, spool, {name: destinations[name] for name in queued if name in destinations}, queued)


def _replay(given: argparse.Namespace) -> int:
    with opened_spool(given) as spool:
        destinations = _chosen(given)
        count = spool.replay(
            keys_of(destinations)[given.to],
            given.since,
            float("inf") if given.until is None else given.until,
            waiting_for=given.source and Naming(spool.routes(), destinations).route(given.source),
            trace_id=trace_id_of(given.trace).to_bytes(_TRACE_ID_BYTES, "big") if given.trace else None,
            evaluate=_judge(given.to, destinations[given.to]),
        )
        if not count:
            raise CommandError(f"nothing of that time is kept that {given.to} takes and has not waiting already")
        return _sent(given, spool, destinations, {given.to: count})


def _judge(name: str, config: DestinationConfig) -> Callable[[SpanRecord], str | None]:
    rules, seen = DestinationFilter(name, config), TraceDecisions()

    def judged(record: SpanRecord) -> str | None:
        whole = replace(record, facts=filter_fields_of(read_record(record)))
        return rules.evaluate(whole, seen.of(whole))

    return judged


def _chosen(given: argparse.Namespace) -> Mapping[str, DestinationConfig]:
    destinations = configured(given)
    if not destinations:
        raise CommandError("the configuration names no destination; `--config FILE` names another", WRONG_USE)
    if given.to is None:
        return destinations
    if given.to not in destinations:
        raise CommandError(unknown("destination", given.to, destinations), WRONG_USE)
    return {given.to: destinations[given.to]}


def _sent(
    given: argparse.Namespace,
    spool: Spool,
    destinations: Mapping[str, DestinationConfig],
    queued: Mapping[str, int],
) -> int:
    if getattr(given, "no_deliver", False):
        destinations = {}
    report = _flushed(spool, destinations, given.timeout) if destinations else FlushReport()
    if is_json(given):
        print(as_json({"queued": dict(queued), "destinations": _as_data(report)}))
        return FINE if report else FAILED
    for name, count in queued.items():
        later = "" if name in destinations else "; sent by the next process that has this destination"
        print(f"{name}: {number(count, 'span')} to be sent{later}")
    for name, told in report.destinations.items():
        print(_told(name, told))
    return FINE if report else FAILED


def _flushed(spool: Spool, destinations: Mapping[str, DestinationConfig], timeout_s: float) -> FlushReport:
    keys = keys_of(destinations)
    before = {name: spool.state(key).attempts for name, key in keys.items()}
    pipeline = ExportPipeline(routes_of(destinations), spool)
    try:
        report = pipeline.flush(timeout_s)
        untried = {name for name, attempts in before.items() if spool.state(keys[name]).attempts == attempts}
    finally:
        pipeline.shutdown(min(timeout_s, _AT_THE_END_S))
    return replace(
        report,
        destinations={
            name: replace(told, last_error=_HELD) if name in untried and told.queued and not told.delivered else told
            for name, told in report.destinations.items()
        },
    )


def _told(name: str, told: DestinationReport) -> str:
    counts = {"waiting": told.queued, "refused": told.dead_lettered, "dropped": told.dropped}
    parts = [f"{told.delivered:,} delivered", *(f"{count:,} {what}" for what, count in counts.items() if count)]
    why = f"; {told.last_error}" if told.last_error and not told else ""
    return folded(", ".join(parts) + why, "  ", f"{name}: ")


def _as_data(report: FlushReport) -> dict[str, Any]:
    return {
        name: {
            "delivered": told.delivered,
            "waiting": told.queued,
            "refused": told.dead_lettered,
            "dropped": told.dropped,
            "last_error": told.last_error,
        }
        for name, told in report.destinations.items()
    }
