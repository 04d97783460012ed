"""``spancast spool flush``, ``requeue`` and ``replay``: send queued, dead-lettered or past spans now.

The command itself sends, to the destinations of the configuration. A process with the same
destinations may run at the same time: only one of them sends to a destination at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from spancast.cli.command import FAILED, OK, USAGE_ERROR, CommandError, Commands, add_command
from spancast.cli.formatting import as_json, moment_of, number
from spancast.cli.naming import Naming, keys_of
from spancast.cli.options import add_spool_options, configured, duration, is_json, opened_spool
from spancast.cli.terminal import Line, folded, show
from spancast.config.field_errors import unknown
from spancast.destinations.config import DestinationConfig
from spancast.diagnostics import counters
from spancast.encoding.span_data import read_record
from spancast.export.filter_fields import filter_fields_of
from spancast.export.filtering import NO_HISTORY, DestinationFilter, TraceDecisions
from spancast.export.flush_report import DestinationReport, FlushReport
from spancast.export.spool.protocol import Spool
from spancast.model.span_ids import trace_id_of
from spancast.model.span_record import SpanRecord

if TYPE_CHECKING:
    from spancast.export.pipeline import ExportPipeline

_TIMEOUT_S: Final = 30.0
_SHUTDOWN_S: Final = 5.0
_STEP_S: Final = 1.0
"""How long a replay waits for the delivery of what it has queued before it queues more."""
_TRACE_ID_BYTES: Final = 16
_NOT_TRIED: Final = "another process is sending to it, or the timeout is too short; pass --timeout TIME"
_MAX_NUMBERS: Final = 10_000


def add_commands(commands: Commands) -> None:
    """Add ``flush``, ``requeue`` and ``replay``."""
    flush = add_command(
        commands,
        "flush",
        "send the queued spans now, without waiting for the next attempt",
        "spancast spool flush langfuse --timeout 1m",
        status="0 all were delivered, 1 a span still waits or was refused, 2 wrong arguments",
    )
    _add_options(flush)
    flush.add_argument("destination", nargs="?", metavar="NAME", help="the destination; default: all of them")
    flush.set_defaults(run=_flush)
    requeue = add_command(
        commands,
        "requeue",
        "send dead letters again: spans that a destination refused",
        "spancast spool requeue langfuse 7 9-12",
    )
    _add_options(requeue)
    _add_no_flush_option(requeue)
    add_words(requeue, "all dead letters")
    requeue.set_defaults(run=_requeue)
    replay = add_command(
        commands,
        "replay",
        "send the stored spans of a time range to a destination, for example to a new one",
        "spancast spool replay langfuse --since 7d",
        "Spans that were delivered already are sent once more.",
    )
    _add_options(replay)
    _add_no_flush_option(replay)
    replay.add_argument("destination", metavar="NAME", help="the destination")
    replay.add_argument(
        "--since",
        required=True,
        type=moment_of,
        metavar="TIME",
        help="start of the time range: e.g. 7d, or 2026-11-20[T14:00]",
    )
    replay.add_argument("--until", type=moment_of, metavar="TIME", help="end of the time range; default: now")
    replay.add_argument("--trace", metavar="TRACE_ID", help="only this trace")
    replay.add_argument("--from", dest="source", metavar="NAME", help="only spans queued for this other destination")
    replay.set_defaults(run=_replay)


def add_words(parser: argparse.ArgumentParser, default: str, *, is_destination_required: bool = False) -> None:
    """Add ``NAME`` and ``SEQ ...``; ``words_of`` reads them."""
    about = "the destination" if is_destination_required else "the destination; default: all of them"
    parser.add_argument("destination", nargs=None if is_destination_required else "?", metavar="NAME", help=about)
    parser.add_argument(
        "words", nargs="*", metavar="SEQ", help=f"numbers of `spancast spool`, e.g. 7 9-12; default: {default}"
    )


def words_of(args: argparse.Namespace) -> tuple[str | None, list[int] | None]:
    """Return the destination and the sequence numbers of the command line, None for what is not given."""
    words: list[str] = [*([args.destination] if args.destination else []), *args.words]
    destination = words.pop(0) if words and not words[0][:1].isdigit() else None
    return destination, [number for word in words for number in _range(word)] or None


def _range(text: str) -> range:
    first, _, end = text.partition("-")
    try:
        numbers = range(int(first), int(end or first) + 1)
    except ValueError:
        numbers = range(0)
    if not 0 < len(numbers) <= _MAX_NUMBERS:
        raise CommandError(
            f"expected a number, or a range such as `9-12` of at most {_MAX_NUMBERS:,} numbers, got {text!r}",
            USAGE_ERROR,
        )
    return numbers


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_spool_options(parser)
    parser.add_argument(
        "--timeout", type=duration, default=_TIMEOUT_S, metavar="TIME", help="how long to try; default: 30s"
    )


def _add_no_flush_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-flush", action="store_true", help="only queue them; a running process sends them")


def _flush(args: argparse.Namespace) -> int:
    with opened_spool(args) as spool:
        return _send(args, spool, _selected_destinations(args), {})


def _requeue(args: argparse.Namespace) -> int:
    destination, sequences = words_of(args)
    with opened_spool(args) as spool:
        # Loaded before the spool is changed: an invalid configuration must not leave the command half done.
        destinations = configured(args, is_needed=not args.no_flush)
        naming = Naming(spool.routes(), destinations)
        queued = {
            naming.shown(route): count
            for route in ([naming.route(destination)] if destination else naming.routes)
            if (count := spool.requeue(route, sequences))
        }
        if not queued:
            raise CommandError(
                "none of these spans is dead-lettered; see `spancast spool`"
                if sequences
                else "no span is dead-lettered"
            )
        return _send(args, spool, {name: destinations[name] for name in queued if name in destinations}, queued)


def _replay(args: argparse.Namespace) -> int:
    with opened_spool(args) as spool:
        destinations = _selected_destinations(args)
        config = destinations[args.destination]
        source = args.source and Naming(spool.routes(), destinations).route(args.source)

        def replayed(on_step: Callable[[], object] | None = None) -> int:
            count = spool.replay(
                keys_of(destinations)[args.destination],
                args.since,
                float("inf") if args.until is None else args.until,
                waiting_for=source,
                trace_id=trace_id_of(args.trace).to_bytes(_TRACE_ID_BYTES, "big") if args.trace else None,
                evaluate=filter_of(args.destination, config),
                on_step=on_step,
            )
            if not count:
                raise CommandError(
                    f"no spans to replay to {args.destination}: none are stored for this time range,"
                    " or they are filtered out or already queued"
                )
            return count

        if args.no_flush:
            return _print(args, {args.destination: replayed()}, FlushReport())
        with _pipeline(spool, {args.destination: config}, args.timeout) as pipeline:
            # The first spans are sent before the last ones are queued.
            count = replayed(lambda: pipeline.deliver_queued(_STEP_S))
            return _print(args, {args.destination: count}, _flush_report(pipeline, args.timeout))


def filter_of(name: str, config: DestinationConfig) -> Callable[[SpanRecord], str | None]:
    """Return the filter of a destination: the reason that it does not take a record, or None."""
    rules, decisions = DestinationFilter(name, config), TraceDecisions()

    def evaluate(record: SpanRecord) -> str | None:
        if not rules.needs_history:
            return rules.evaluate(record, NO_HISTORY)
        complete = replace(record, facts=filter_fields_of(read_record(record)))
        return rules.evaluate(complete, decisions.of(complete))

    return evaluate


def _selected_destinations(args: argparse.Namespace) -> Mapping[str, DestinationConfig]:
    destinations = configured(args)
    if not destinations:
        raise CommandError("no destination is configured; pass --config FILE for another configuration", USAGE_ERROR)
    if args.destination is None:
        return destinations
    if args.destination not in destinations:
        raise CommandError(unknown("destination", args.destination, destinations), USAGE_ERROR)
    return {args.destination: destinations[args.destination]}


def _send(
    args: argparse.Namespace,
    spool: Spool,
    destinations: Mapping[str, DestinationConfig],
    queued: Mapping[str, int],
) -> int:
    is_sent = destinations and not getattr(args, "no_flush", False)
    return _print(args, queued, flush_report(spool, destinations, args.timeout) if is_sent else FlushReport())


def _print(args: argparse.Namespace, queued: Mapping[str, int], report: FlushReport) -> int:
    if is_json(args):
        print(as_json({"queued": dict(queued), "destinations": _as_data(report)}))
        return OK if report else FAILED
    for name, count in queued.items():
        later = "" if name in report.destinations else "; sent by the next process that has this destination"
        show(folded(f"{name}: {number(count, 'span')} queued{later}", "  ", ""))
    for name, result in report.destinations.items():
        show(_result_lines(name, result))
    return OK if report else FAILED


def flush_report(spool: Spool, destinations: Mapping[str, DestinationConfig], timeout_s: float) -> FlushReport:
    """Send what waits for ``destinations`` in this process; return what became of it."""
    with _pipeline(spool, destinations, timeout_s) as pipeline:
        return _flush_report(pipeline, timeout_s)


@contextmanager
def _pipeline(
    spool: Spool, destinations: Mapping[str, DestinationConfig], timeout_s: float
) -> Generator[ExportPipeline]:
    # Imports the SDK of OpenTelemetry, which the other commands of the spool do not need.
    from spancast.export.pipeline import ExportPipeline, routes_of  # noqa: PLC0415 - see above

    pipeline = ExportPipeline(routes_of(destinations), spool)
    try:
        yield pipeline
    finally:
        pipeline.shutdown(min(timeout_s, _SHUTDOWN_S))


def _flush_report(pipeline: ExportPipeline, timeout_s: float) -> FlushReport:
    before = counters.read()
    report = pipeline.flush(timeout_s)
    tried = {key.destination for key in counters.read() - before if key.name == "retries"}
    return replace(
        report,
        destinations={
            name: replace(result, last_error=_NOT_TRIED)
            if name not in tried and result.queued and not result.delivered
            else result
            for name, result in report.destinations.items()
        },
    )


def _result_lines(name: str, result: DestinationReport) -> Iterator[Line]:
    counts = {"queued": result.queued, "dead-lettered": result.dead_lettered, "dropped": result.dropped}
    parts = [f"{result.delivered:,} delivered", *(f"{count:,} {state}" for state, count in counts.items() if count)]
    error = f"; {result.last_error}" if result.last_error and not result else ""
    return folded(", ".join(parts) + error, "  ", f"{name}: ")


def _as_data(report: FlushReport) -> dict[str, Any]:
    return {
        name: {
            "delivered": result.delivered,
            "queued": result.queued,
            "dead_lettered": result.dead_lettered,
            "dropped": result.dropped,
            "last_error": result.last_error,
        }
        for name, result in report.destinations.items()
    }
