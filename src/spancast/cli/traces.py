"""``spancast traces`` and ``show``: the traces of the local store."""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from spancast.cli.command import OK, CommandError, Commands
from spancast.cli.content_view import content_lines
from spancast.cli.formatting import as_json, columns, folded, iso, lapse, moment, number, width
from spancast.cli.options import add_config_option, add_json_option, is_json, opened_store
from spancast.cli.spool_send import moment_of
from spancast.destinations.local_store import Store, TraceSummary
from spancast.encoding.genai_fields import raw_trace_id
from spancast.encoding.redaction import without_content
from spancast.encoding.span_data import SpanData
from spancast.encoding.tree_view import printable, render_tree, totals, usd
from spancast.model import semconv
from spancast.tracing.id_generator import trace_id_of

_HEADING: Final = ("STARTED", "TRACE", "NAME", "CALLS", "TOKENS", "COST", "TOOK", "STATUS")
_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_MS_PER_S: Final = 1000
_NO_BREAK_SPACE: Final = "\xa0"
_MAX_SECONDS_MS: Final = 100_000
_ID_DIGITS: Final = 32
_SHORTEST_ID: Final = 8
_DEFAULT_LIMIT: Final = 20
_THOUSAND: Final = 1000
_EXACT_BELOW: Final = 10_000
_MILLION: Final = 1_000_000
_CENT: Final = 0.01


def add_commands(commands: Commands) -> None:
    """Add ``traces`` and ``show``."""
    traces = commands.add_parser("traces", help="list the traces of the local store")
    _add_store_options(traces)
    traces.add_argument("--session", metavar="ID", help="only traces of this session")
    traces.add_argument("--model", metavar="NAME", help="only traces with a call of a model whose name contains NAME")
    traces.add_argument("--errors", action="store_true", help="only traces with an error")
    traces.add_argument(
        "--since", type=moment_of, default=0.0, metavar="TIME", help="only newer traces: e.g. 1d, or 2026-11-20[T14:00]"
    )
    traces.add_argument(
        "--limit",
        type=int,
        default=_DEFAULT_LIMIT,
        metavar="N",
        help=f"maximum number of traces; default: {_DEFAULT_LIMIT}",
    )
    traces.set_defaults(run=_traces)
    show = commands.add_parser("show", help="show one trace of the local store as a tree")
    _add_store_options(show)
    show.add_argument(
        "trace_id", metavar="TRACE_ID", help="the trace_id of the caller, 32 hex digits, or a prefix of these"
    )
    show.add_argument("--content", action="store_true", help="show messages, too")
    show.set_defaults(run=_show)


def _add_store_options(parser: argparse.ArgumentParser) -> None:
    add_config_option(parser)
    parser.add_argument(
        "--store", type=Path, metavar="FILE", help="default: the configured store, else the default path"
    )
    add_json_option(parser)


@contextmanager
def _open_store(args: argparse.Namespace) -> Generator[Store]:
    store = opened_store(args)
    try:
        yield store
    except sqlite3.Error as error:
        raise CommandError(f"{store.path} cannot be read: {error}") from None


def _traces(args: argparse.Namespace) -> int:
    with _open_store(args) as store:
        found = store.traces(max(args.limit, 0), args.session, args.since, model=args.model, with_errors=args.errors)
    if is_json(args):
        print(as_json([_summary_data(one) for one in found]))
        return OK
    if not found:
        print(f"no matching trace in {store.path}")
        return OK
    short = _short_length([one.trace_id for one in found])
    rows = [_row(one, short) for one in found]
    print("\n".join(columns([_HEADING, *rows], right=(3, 4, 5, 6), last=2)))
    return OK


def _short_length(ids: Sequence[str]) -> int:
    """Return the number of id digits that distinguish the traces."""
    known = set(ids)
    return next(
        count for count in range(_SHORTEST_ID, _ID_DIGITS + 1) if len({one[:count] for one in known}) == len(known)
    )


def _row(one: TraceSummary, short: int) -> tuple[str, ...]:
    return (
        moment(one.start_ns / _NS_PER_S),
        one.trace_id[:short],
        one.name,
        str(one.calls),
        _tokens(one.input_tokens, one.output_tokens),
        "" if one.cost is None else f"{'~' if one.is_estimated else ''}{_cost(one.cost)}",
        _duration(one.end_ns - one.start_ns),
        f"{number(one.errors, 'error')}" if one.errors else "ok",
    )


def _tokens(input_tokens: int | None, output_tokens: int | None) -> str:
    return (
        ""
        if input_tokens is None and output_tokens is None
        else f"{_rounded(input_tokens or 0)}→{_rounded(output_tokens or 0)}"
    )


def _rounded(count: int) -> str:
    if count < _EXACT_BELOW:
        return str(count)
    return f"{count / _THOUSAND:.0f}k" if count < _MILLION else f"{count / _MILLION:.1f}M"


def _cost(usd: float) -> str:
    return f"${usd:.2f}" if usd >= _CENT or not usd else f"${usd:.2g}"


def _duration(span_ns: int) -> str:
    ms = span_ns / _NS_PER_MS
    if ms < _MS_PER_S:
        return f"{ms:.0f} ms"
    return f"{ms / _MS_PER_S:.1f} s" if ms < _MAX_SECONDS_MS else lapse(ms / _MS_PER_S)


def _summary_data(one: TraceSummary) -> dict[str, Any]:
    data = {name: value for name, value in asdict(one).items() if name not in ("start_ns", "end_ns")}
    return {
        **data,
        "start": iso(one.start_ns / _NS_PER_S),
        "duration_ms": (one.end_ns - one.start_ns) / _NS_PER_MS,
    }


def _show(args: argparse.Namespace) -> int:
    with _open_store(args) as store:
        spans = store.trace(full_id(store, args.trace_id))
    if is_json(args):
        print(as_json([_span_data(span, with_content=args.content) for span in spans]))
    else:
        print("\n".join(_trace_lines(spans, with_content=args.content)))
    return OK


def full_id(store: Store, text: str) -> str:
    """Return the trace id in ``store`` for ``text``: the caller's id, the hex id or a prefix of it.

    Raises:
        CommandError: No trace or more than one matches.
    """
    found = store.ids(text) or store.ids(f"{trace_id_of(text):032x}")
    if not found:
        raise CommandError(f"no trace {text!r} in {store.path}; see `spancast traces`")
    if len(found) > 1:
        raise CommandError(f"{text!r} is ambiguous: {', '.join(found)}")
    return found[0]


def _trace_lines(spans: Sequence[SpanData], *, with_content: bool) -> Iterator[str]:
    raw = raw_trace_id(spans[0])
    trace_id = spans[0].trace_id
    yield trace_id if raw == trace_id else f"{trace_id} ({printable(raw)})"
    # Lines are not broken inside an item.
    items = (item.replace(" ", _NO_BREAK_SPACE) for item in _summary(spans))
    yield folded(" · ".join(items), "  ", "").replace(_NO_BREAK_SPACE, " ")
    yield ""
    yield render_tree(spans, width())
    failed = [span for span in spans if span.status == "error" and span.status_message]
    if failed:
        yield "\nErrors:"
    for span in failed:
        yield folded(span.status_message, "    ", f"  {printable(span.name)}: ")
    if with_content:
        for span in spans:
            yield from content_lines(span)


def _summary(spans: Sequence[SpanData]) -> Iterator[str]:
    sums = totals(spans)
    yield moment(min(span.start_ns for span in spans) / _NS_PER_S)
    for name, attribute in (("session", semconv.SESSION_ID), ("user", semconv.USER_ID)):
        value = next((found for span in spans if (found := span.first(attribute))), None)
        if value:
            yield f"{name} {value}"
    yield number(sums.calls, "call")
    if sums.input_tokens or sums.output_tokens:
        yield f"{sums.input_tokens:,} → {sums.output_tokens:,} tokens"
    if sums.cost is not None:
        yield usd(sums.cost, is_estimated=sums.is_estimated)
    yield _duration(max(span.end_ns for span in spans) - min(span.start_ns for span in spans))
    errors = sum(span.status == "error" for span in spans)
    if errors:
        yield number(errors, "error")


def _span_data(span: SpanData, *, with_content: bool) -> dict[str, Any]:
    # The error message is shown in the tree view as well.
    visible = span if with_content else replace(without_content(span), status_message=span.status_message)
    return {**asdict(visible), "start": iso(span.start_ns / _NS_PER_S), "duration_ms": span.duration_ms}
