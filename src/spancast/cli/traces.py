"""``spancast traces`` and ``show``: the traces of the local store."""

from __future__ import annotations

import argparse
import shlex
import sqlite3
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Final

from rich.text import Text

from spancast.cli.command import OK, CommandError, Commands, add_command
from spancast.cli.formatting import as_json, iso, moment, moment_of, number
from spancast.cli.options import add_json_option, add_store_options, is_json, opened_store
from spancast.cli.page_links import MISSING, PORT, listens, page_link
from spancast.cli.terminal import ERROR, GOOD, MODEL, Line, columns, cut, show
from spancast.cli.trace_view import trace_lines
from spancast.destinations.span_store import Store, TraceSummary
from spancast.encoding import amounts
from spancast.encoding.redaction import without_content
from spancast.encoding.span_data import SpanData
from spancast.model.span_ids import trace_id_of

_HEADING: Final = ("STARTED", "TRACE", "NAME", "MODEL", "CALLS", "TOKENS", "COST", "TOOK", "STATUS", "SESSION")
_OPTIONAL: Final = tuple(map(_HEADING.index, ("SESSION", "MODEL", "CALLS", "TOOK", "STARTED", "TOKENS", "COST")))
"""The columns that a narrow terminal does not have, in the order in which they are left out."""
_MODEL_ROOM: Final = 28
_SESSION_ROOM: Final = 24
_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_ID_DIGITS: Final = 32
_SHORTEST_ID: Final = 8
_DEFAULT_LIMIT: Final = 20
_MAX_MATCHES: Final = 10
_NAME_ROOM: Final = 40
_ALL: Final = 1_000_000


def add_commands(commands: Commands) -> None:
    """Add ``traces`` and ``show``."""
    traces = add_command(
        commands,
        "traces",
        "list the traces of the local store, newest first",
        "spancast traces --since 1d --errors",
        "A narrow terminal has fewer columns; --json has all fields.",
    )
    add_store_options(traces)
    add_json_option(traces)
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
    one = add_command(
        commands,
        "show",
        "draw one trace of the local store as a tree",
        "spancast show 3f2a9c01 --content",
        "It has time, tokens, cost, model, finish reason, parameters, custom keys, errors and problems of every call.",
    )
    add_store_options(one)
    add_json_option(one)
    one.add_argument(
        "trace_id", metavar="TRACE_ID", help="an id of `spancast traces`, or the trace_id that your code gave"
    )
    one.add_argument("--content", action="store_true", help="show the messages, too")
    one.add_argument(
        "--html", action="store_true", help="print the trace as one HTML file, with its messages; needs spancast[ui]"
    )
    one.set_defaults(run=_show)


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
    show(columns([_HEADING, *rows], right=(4, 5, 6, 7), last=2, optional=_OPTIONAL))
    if sys.stdout.isatty():
        option = f" --store {shlex.quote(str(args.store))}" if args.store else ""
        print(f"in a browser: {page_link('', option, is_running=listens(PORT))}", file=sys.stderr)
    return OK


def _short_length(ids: Sequence[str]) -> int:
    """Return the number of id digits that distinguish the traces."""
    known = set(ids)
    return next(
        count for count in range(_SHORTEST_ID, _ID_DIGITS + 1) if len({one[:count] for one in known}) == len(known)
    )


def _row(one: TraceSummary, short: int) -> tuple[Line, ...]:
    return (
        moment(one.start_ns / _NS_PER_S),
        one.trace_id[:short],
        one.name,
        Text(_models(one.models), MODEL),
        str(one.calls),
        amounts.tokens(one.input_tokens, one.output_tokens),
        amounts.cost(one.cost, is_estimated=one.is_estimated),
        amounts.duration(one.end_ns - one.start_ns),
        Text(number(one.errors, "error"), ERROR) if one.errors else Text("open") if one.is_open else Text("ok", GOOD),
        cut(one.session_id or "", _SESSION_ROOM),
    )


def _models(models: Sequence[str]) -> str:
    more = f" +{len(models) - 1}" if len(models) > 1 else ""
    return cut(models[0], _MODEL_ROOM) + more if models else ""


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
    if args.html:
        print(_html(spans))
    elif is_json(args):
        print(as_json([_span_data(span, with_content=args.content) for span in spans]))
    else:
        show(trace_lines(spans, with_content=args.content))
    return OK


def _html(spans: Sequence[SpanData]) -> str:
    try:
        from spancast.ui.pages import Pages  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise CommandError(MISSING.format(name=error.name)) from None
    return Pages("").static(spans)


def full_id(store: Store, text: str) -> str:
    """Return the trace id in ``store`` for ``text``: the caller's id, the hex id or a prefix of it.

    Raises:
        CommandError: No trace or more than one matches.
    """
    found = found_id(store, text)
    if found is None:
        raise CommandError(f"no trace {text!r} in {store.path}; see `spancast traces`")
    return found


def found_id(store: Store, text: str) -> str | None:
    """Return the result of ``full_id``, None if no trace matches.

    Raises:
        CommandError: More than one trace matches; the message lists them.
    """
    found = store.ids(text, _MAX_MATCHES + 1) or store.ids(f"{trace_id_of(text):032x}")
    if len(found) > 1:
        named = {one.trace_id: f"{one.trace_id}  {cut(one.name, _NAME_ROOM)}" for one in store.traces(_ALL)}
        matches = [f"  {named.get(one, one)}" for one in found[:_MAX_MATCHES]]
        more = ["  …"] if len(found) > _MAX_MATCHES else []
        raise CommandError("\n".join([f"{text!r} is the beginning of more than one trace id:", *matches, *more]))
    return found[0] if found else None


def _span_data(span: SpanData, *, with_content: bool) -> dict[str, Any]:
    # The error message is shown in the tree view as well.
    visible = span if with_content else replace(without_content(span), status_message=span.status_message)
    return {**asdict(visible), "start": iso(span.start_ns / _NS_PER_S), "duration_ms": span.duration_ms}
