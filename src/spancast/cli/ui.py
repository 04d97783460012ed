"""``spancast ui``: the local store in a browser, on this machine."""

from __future__ import annotations

import argparse
import secrets
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from spancast.cli.command import OK, CommandError, Commands, add_command
from spancast.cli.explain import renamed, shown_state
from spancast.cli.formatting import number, size, why_dropped
from spancast.cli.naming import Naming, keys_of
from spancast.cli.options import (
    add_spool_option,
    add_store_options,
    configured,
    load_settings,
    opened_spool,
    store_path,
)
from spancast.cli.page_links import MISSING, PORT
from spancast.cli.spool import why_queued
from spancast.cli.spool_send import filter_of, flush_report
from spancast.destinations.config import TRACE_ID, DestinationConfig
from spancast.destinations.encoder_config import redaction_of
from spancast.destinations.local_store import StoreConfig
from spancast.destinations.otlp_vendors import TRACES
from spancast.encoding.redaction import NO_REDACTION, Redaction
from spancast.errors import SpancastError
from spancast.export.spool.protocol import DeadLetter, Spool

if TYPE_CHECKING:
    from spancast.ui.deliveries import Action, Fate, Overview, Refused

_HOST: Final = "127.0.0.1"
_TIMEOUT_S: Final = 10.0
_MAX_REFUSED: Final = 500
_JAEGER_PAGE: Final = 16686


def add_commands(commands: Commands) -> None:
    """Add ``ui``."""
    ui = add_command(
        commands,
        "ui",
        "show the traces of the local store in a browser, and receive OTLP; only for this machine",
        "spancast ui --open",
        "It reads the store that `spancast traces` lists, and stores spans sent to /v1/traces (OTLP/HTTP).",
    )
    add_store_options(ui)
    add_spool_option(ui)
    ui.add_argument("--port", type=int, default=PORT, metavar="PORT", help=f"default: {PORT}; 0: any free one")
    ui.add_argument(
        "--host",
        default=_HOST,
        metavar="ADDRESS",
        help=f"default: {_HOST}; another address needs a token, which is part of the printed URL",
    )
    ui.add_argument("--token", metavar="TOKEN", help="require this token; default: a random one if --host is not local")
    ui.add_argument("--open", action="store_true", help="open the page in a browser")
    ui.set_defaults(run=_ui)


def _ui(args: argparse.Namespace) -> int:
    with serving(args, args.host, args.port, args.token) as page:
        print(page.about, file=sys.stderr, flush=True)
        if args.open:
            webbrowser.open(page.url)
        page.wait()
    return OK


@dataclass(frozen=True, slots=True)
class RunningPage:
    """A page that is served: ``url`` opens it, ``about`` is for the user."""

    url: str
    about: str

    def wait(self) -> None:
        """Return at Ctrl-C or SIGTERM."""
        ended = threading.Event()

        def end(_: int, __: object) -> None:
            ended.set()

        signal.signal(signal.SIGTERM, end)
        with suppress(KeyboardInterrupt):
            ended.wait()


@contextmanager
def serving(
    args: argparse.Namespace, host: str = _HOST, port: int | None = None, token: str | None = None
) -> Generator[RunningPage]:
    """Serve the page on a thread of its own; without ``port`` on the usual one, or another if that is in use.

    Raises:
        CommandError: A package is missing, or the port is in use.
    """
    try:
        import uvicorn  # noqa: PLC0415 - an extra

        from spancast.ui.app import create_app  # noqa: PLC0415
        from spancast.ui.guard import TOKEN, is_loopback  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(MISSING.format(name=error.name)) from None
    token = token or (None if is_loopback(host) else secrets.token_urlsafe(24))
    store = store_path(args)
    redaction, replacements = _redaction(args)
    app = create_app(
        store, SpoolDeliveries(args), host=host, token=token, redaction=redaction, replacements=replacements
    )
    with _listener(host, port) as listener:
        address = f"http://{_shown_host(host)}:{listener.getsockname()[1]}/"
        url = f"{address}?{TOKEN}={token}" if token else address
        # Without an access log: addresses hold what was searched for.
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, ws="none")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="spancast-ui", daemon=True)
        thread.start()
        try:
            yield RunningPage(
                url, f"spancast ui: {url}\n  reads {store}; takes OTLP/HTTP at {address}v1/traces; Ctrl-C ends it"
            )
        finally:
            server.should_exit = True
            thread.join(_TIMEOUT_S)


def _listener(host: str, port: int | None) -> socket.socket:
    """Return a listening socket.

    Raises:
        CommandError: The port is in use, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, PORT if port is None else port))
        # Now, so that a browser that is opened at once can connect.
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        if port is None:
            return _listener(host, 0)
        raise CommandError(f"cannot listen on {host}:{port}: {error}; pass --port PORT for another") from None
    return listener


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _redaction(args: argparse.Namespace) -> tuple[Redaction, list[str]]:
    """Return what the configured store may not hold, for spans that are received; and what its masks leave."""
    configs = load_settings(args).destinations.values()
    stores = [config for config in configs if isinstance(config, StoreConfig) and config.enabled]
    if not stores:
        return NO_REDACTION, []
    left = [mask.replacement for mask in stores[0].mask if mask.pattern is not None and mask.replacement]
    return redaction_of(stores[0]), list(dict.fromkeys(left))


class SpoolDeliveries:
    """The spool of the command line, opened for each request: programs that use it are not delayed."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args

    def overview(self) -> Overview:
        """Return the state of every destination."""
        from spancast.ui.deliveries import DestinationState, Overview  # noqa: PLC0415 - an extra

        try:
            destinations = configured(self._args, is_needed=False)
            with opened_spool(self._args) as spool:
                naming, now_s = Naming(spool.routes(), destinations), time.time()
                states = {naming.shown(key): spool.state(key) for key in naming.routes}
                refused = [*_refused(spool, naming, "dead-lettered"), *_refused(spool, naming, "dropped")]
                usage = spool.usage()
        except SpancastError as error:
            return Overview(unknown=str(error))
        return Overview(
            path=usage.path,
            usage=f"{number(usage.records, 'span')} stored, {size(usage.bytes_on_disk)} on disk",
            destinations=[
                DestinationState(
                    name=name,
                    about=destinations[name].type if name in destinations else "",
                    queued=state.queued,
                    queued_size=size(state.queued_bytes),
                    dead_lettered=state.dead_lettered,
                    dropped=state.dropped,
                    delivered=state.delivered,
                    last_delivered_s=state.last_delivered_s,
                    problem=why_queued(name, state, naming, now_s),
                    is_configured=name in destinations,
                    page=_page(destinations, name),
                )
                for name, state in states.items()
            ],
            refused=refused,
        )

    def of_trace(self, trace_id: str) -> tuple[list[Fate], str]:
        """Return where the spans of a trace are, and why nothing is known (else empty)."""
        from spancast.ui.deliveries import Fate  # noqa: PLC0415 - an extra

        try:
            destinations = configured(self._args, is_needed=False)
            with opened_spool(self._args) as spool:
                naming, now_s = Naming(spool.routes(), destinations), time.time()
                history = spool.history(bytes.fromhex(trace_id))
                # Only of those that are shown: the size of a long queue takes as long as the search for a trace.
                queued = {state.route for one in history for state in one.states if state.state == "waiting"}
                states = {naming.shown(key): spool.state(key) for key in naming.routes if key in queued}
        except (SpancastError, ValueError) as error:
            return [], f"Nothing is known of other destinations: {error}"
        groups: dict[tuple[str, str, str], list[tuple[str, int, float]]] = {}
        for one in history:
            for entry in renamed(one.states, naming):
                key = (entry.route, *shown_state(entry))
                groups.setdefault(key, []).append((one.span_id.hex(), one.sequence, entry.at_s))
        fates = [
            Fate(
                destination=name,
                state=state,
                reason=why_queued(name, states[name], naming, now_s) if state == "queued" else reason,
                at_s=max(at_s for _, _, at_s in spans),
                span_ids=frozenset(span_id for span_id, _, _ in spans),
                sequences=[sequence for _, sequence, _ in spans],
                link=_trace_url(destinations, name).replace(TRACE_ID, trace_id) if state == "delivered" else "",
                is_configured=name in destinations,
            )
            for (name, state, reason), spans in groups.items()
        ]
        return fates, "" if history else "No span of this trace is in the spool: it was removed, or never queued there."

    def act(self, action: Action, destination: str, sequences: Sequence[int], trace_id: str) -> str:
        """Send or drop spans; return a sentence about the result."""
        try:
            destinations = configured(self._args)
            with opened_spool(self._args) as spool:
                naming = Naming(spool.routes(), destinations)
                return self._acted(spool, naming, destinations, action, destination, sequences, trace_id)
        except (SpancastError, ValueError) as error:
            return str(error)

    def _acted(  # noqa: PLR0913, PLR0917 - the parts of one command
        self,
        spool: Spool,
        naming: Naming,
        destinations: Mapping[str, DestinationConfig],
        action: Action,
        name: str,
        sequences: Sequence[int],
        trace_id: str,
    ) -> str:
        route = naming.route(name)
        if action == "purge":
            return f"{name}: {number(spool.purge(route, sequences or None), 'span')} purged"
        config = destinations.get(name)
        if config is None:
            return f"{name} is not in the configuration, so nothing can be sent to it"
        queued = 0
        if action == "requeue":
            queued = spool.requeue(route, sequences or None)
        elif action == "replay":
            one_trace = bytes.fromhex(trace_id)
            queued = spool.replay(
                keys_of(destinations)[name], 0.0, float("inf"), trace_id=one_trace, evaluate=filter_of(name, config)
            )
            if not queued:
                return f"{name}: no span of the trace can be sent again; it is no longer stored, or already queued"
        result = flush_report(spool, {name: config}, _TIMEOUT_S).destinations[name]
        counts = {"delivered": result.delivered, "queued": result.queued, "dead-lettered": result.dead_lettered}
        text = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count) or "nothing to send"
        error = f"; {result.last_error}" if result.last_error and not result else ""
        return f"{name}: {text}{error}" if not queued else f"{name}: {number(queued, 'span')} sent again: {text}{error}"


def _refused(spool: Spool, naming: Naming, state: str) -> list[Refused]:
    from spancast.ui.deliveries import Refused  # noqa: PLC0415 - an extra

    found = spool.dead_letters(limit=_MAX_REFUSED) if state == "dead-lettered" else spool.dropped(limit=_MAX_REFUSED)
    groups: dict[tuple[str, str, str], list[DeadLetter]] = {}
    for one in found:
        groups.setdefault((one.route, one.reason, one.trace_id), []).append(one)
    return [
        Refused(
            destination=naming.shown(route),
            reason=why_dropped(reason),
            trace_id=trace_id,
            sequences=[one.sequence for one in of_trace],
            at_s=max(one.at_s for one in of_trace),
            state=state,
        )
        for (route, reason, trace_id), of_trace in groups.items()
    ]


def _trace_url(destinations: Mapping[str, Any], name: str) -> str:
    """Return the address of a trace in the destination's own page, with ``{trace_id}``; empty if unknown.

    Without ``trace_url`` it is known of a Jaeger on its usual port, and of Phoenix
    (arize.com/docs/phoenix/tracing/how-to-tracing/advanced/constructing-urls).
    """
    config = destinations.get(name)
    if given := getattr(config, "trace_url", None):
        return str(given)
    kind = getattr(config, "type", "")
    host = urlsplit(str(getattr(config, "endpoint", ""))).hostname if kind == "jaeger" else None
    if host:
        return f"http://{host}:{_JAEGER_PAGE}/trace/{TRACE_ID}"
    base = str(getattr(config, "base_url", "")).rstrip("/").removesuffix(TRACES) if kind == "phoenix" else ""
    return f"{base}/redirects/traces/{TRACE_ID}" if base else ""


def _page(destinations: Mapping[str, Any], name: str) -> str:
    """Return the address of the destination's own page; empty if unknown."""
    scheme, _, rest = _trace_url(destinations, name).partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if rest else ""
