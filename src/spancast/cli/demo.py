"""``spancast demo``: trace a scripted conversation and show its tree."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Final

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from spancast.cli.command import OK, CommandError, Commands, add_command
from spancast.cli.options import add_store_options, store_path
from spancast.cli.page_links import PORT, listens, page_link
from spancast.cli.terminal import HEADING, as_text, folded, show
from spancast.cli.trace_view import trace_lines
from spancast.demo.conversation import SERVICE, converse, new_order
from spancast.demo.providers import Engine, Provider, connect
from spancast.destinations.span_store import Store
from spancast.export.flush_report import DestinationReport
from spancast.runtime import configure, flush, shutdown
from spancast.testing import ReplayServer

_JAEGER: Final = "jaeger"
_JAEGER_OTLP: Final = 4318
_JAEGER_PAGE: Final = 16686
_FLUSH_S: Final = 10.0


def add_commands(commands: Commands) -> None:
    """Add ``demo``."""
    demo = add_command(
        commands,
        "demo",
        "trace a scripted conversation and draw it; needs no key and no network",
        "spancast demo",
        "The calls are real calls of the installed SDKs (openai, anthropic, openrouter) to a server on this machine;"
        " without an SDK they are plain HTTP requests. The trace is stored on this machine, and sent to Jaeger if it"
        " runs on localhost.",
    )
    add_store_options(demo)
    demo.add_argument(
        "--engine",
        metavar="URL",
        help="a server of a real model in place of the scripted one, with Chat Completions and Messages: llama.cpp's",
    )
    demo.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    path = store_path(args)
    order, has_jaeger = new_order(), listens(_JAEGER_OTLP) and listens(_JAEGER_PAGE)
    destinations: dict[str, dict[str, Any]] = {"store": {"type": "store", "path": str(path)}}
    if has_jaeger:
        destinations[_JAEGER] = {"type": _JAEGER}
    provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create({SERVICE_NAME: SERVICE}))
    show([f"A support conversation with {'a real model' if args.engine else 'a scripted server on this machine'}."])
    with nullcontext(Engine(args.engine)) if args.engine else ReplayServer(openrouter=True) as server:
        # Before configure(): the first calls of the clients, which import and connect, are not traced.
        providers = connect(server)
        # Without a file and with a provider of its own, so that only these destinations receive the conversation.
        configure(os.devnull, tracer_provider=provider, destinations=destinations, spool="memory")
        show(folded(_clients(providers.values())))
        converse(server, providers, order)
        for one in providers.values():
            one.close()
    report = flush(_FLUSH_S)
    shutdown()
    provider.shutdown()
    spans = Store(path).trace(order) if path.is_file() else []
    if not spans:
        raise CommandError(f"no span arrived in {path}: {report}; is OTEL_SDK_DISABLED set?")
    show(["", *trace_lines(spans, with_content=False), "", f"Stored in {path}", as_text("See more", HEADING)])
    option = f" --store {shlex.quote(str(path))}" if args.store else ""
    show(
        [
            f"  every trace    spancast traces{option}",
            f"  its messages   spancast show {order} --content{option}",
            f"  in a browser   {page_link(f'trace/{spans[0].trace_id}', option, is_running=listens(PORT))}",
            f"  Jaeger         {_in_jaeger(spans[0].trace_id, report.destinations.get(_JAEGER))}",
        ]
    )
    return OK


def _clients(providers: Iterable[Provider]) -> str:
    sdks = [one.about for one in providers if one.about]
    plain = [one.name for one in providers if not one.about]
    text = f"Calls by {', '.join(sdks)}." if sdks else ""
    if plain:
        text += (
            f" Without the package{'s' if len(plain) > 1 else ''} {', '.join(plain)}:"
            " plain HTTP requests of a function with @spancast.instrument."
        )
    return text.strip()


def _in_jaeger(trace_id: str, sent: DestinationReport | None) -> str:
    if sent is None:
        return "none on localhost; the demo would send the trace there, too"
    return f"http://localhost:{_JAEGER_PAGE}/trace/{trace_id}" if sent.delivered else f"not sent: {sent.last_error}"
