"""The routes of the page: a Starlette application on one local store."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from spancast.destinations.field_types import read_duration
from spancast.destinations.span_store import Store
from spancast.destinations.store_index import (
    Progress,
    StoreIndex,
    TraceQuery,
    TraceRow,
)
from spancast.destinations.store_sums import DAY, HOUR, MODEL, PROVIDER, SESSION, STATUS, USER, Sums, day_begin
from spancast.encoding.redaction import NO_REDACTION, Redaction
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec
from spancast.ui import receiver
from spancast.ui.conversation import Conversation, conversation_of
from spancast.ui.deliveries import Deliveries
from spancast.ui.guard import Guard
from spancast.ui.pages import FOLDER, Pages, span_json
from spancast.ui.snippets import snippets
from spancast.ui.trace_view import TraceView, problems, trace_view

_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_DAY_NS: Final = 86_400 * _NS_PER_S
_MONTH_NS: Final = 30 * _DAY_NS
_FRESH_S: Final = 0.05
_EVERY_S: Final = 1.0
_PAGE: Final = 50
_MAX_EXPORT: Final = 100_000
_MAX_TURNS: Final = 200
_MAX_EARLIER: Final = 40
_MAX_NOTICES: Final = 100
_MAX_FORM: Final = 1 << 20
_MAX_DIGITS: Final = 19
_MAX_NUMBER: Final = 1e9
_TABS: Final = ("conversation", "request", "attributes", "delivery", "copy")
_KEY_FILTERS: Final[Mapping[str, str]] = {
    "model": MODEL, "provider": PROVIDER, "session": SESSION, "user": USER, "status": STATUS,
}  # fmt: skip
_WHERE: Final = re.compile(r'([^\s=]+)=("[^"]*"|\S+)')
_GROUPS: Final[Mapping[str, str]] = {
    "day": DAY, "hour": HOUR, "model": MODEL, "provider": PROVIDER, "user": USER, "session": SESSION,
}  # fmt: skip
_TIMES: Final = ("day", "hour")
_MAX_TIMES: Final = 500
_MAX_GROUPS: Final = 200
"""Percentiles of a group are counted from its days: 500 groups of a million spans took a tenth of a second longer."""
_CSV: Final = (
    "start", "trace_id", "name", "session", "user", "models", "calls", "errors", "input", "output", "cost",
    "is_estimated", "duration_ms", "question", "answer",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selection:
    """The filters of a list, as they are in its address."""

    query: TraceQuery
    params: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    columns: tuple[str, ...]

    def address(self, path: str = "/", **changes: object) -> str:
        """Return the address of the selection with ``changes``; an empty value removes a parameter."""
        pairs = [one for one in self.params if one[0] not in changes]
        pairs += [(name, str(value)) for name, value in changes.items() if value not in (None, "")]
        return f"{path}?{urlencode(pairs)}" if pairs else path


def create_app(  # noqa: PLR0913 - all keyword, all optional
    store: Path,
    deliveries: Deliveries,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    redaction: Redaction = NO_REDACTION,
    replacements: Sequence[str] = (),
) -> Guard:
    """Return the application for the store at ``store``.

    ``redaction`` is applied to received spans; ``replacements`` are what masks leave in a text.

    Raises:
        ValueError: ``host`` is no loopback address, and there is no ``token``.
    """
    return Guard(_App(store, deliveries, redaction, replacements).starlette(), host, token)


class _App:
    def __init__(self, store: Path, deliveries: Deliveries, redaction: Redaction, replacements: Sequence[str]) -> None:
        self._store = Store(store)
        self._index = StoreIndex(store)
        self._deliveries = deliveries
        self._redaction = redaction
        self._replacements = replacements
        self._pages = Pages(str(store.absolute()))
        self._notices: dict[str, str] = {}

    def starlette(self) -> Starlette:
        """Return the routes, with a thread that keeps the index current while they are served."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncGenerator[None]:
            with self._indexing():
                yield

        pages: list[tuple[str, Callable[[Request], Response]]] = [
            ("/", self._list),
            ("/trace/{trace_id}", self._trace),
            ("/trace/{trace_id}/page.html", self._static),
            ("/trace/{trace_id}/spans.json", self._spans),
            ("/trace/{trace_id}/{span_id}/text", self._text),
            ("/sessions", self._sessions),
            ("/session", self._session),
            ("/compare", self._compare),
            ("/totals", self._totals),
            ("/destinations", self._destinations),
            ("/export.jsonl", self._jsonl),
            ("/export.csv", self._csv),
        ]
        return Starlette(
            routes=[
                *(Route(path, self._guarded(page), methods=["GET"]) for path, page in pages),
                Route("/delete", self._delete, methods=["POST"]),
                Route("/spool", self._spool, methods=["POST"]),
                Route("/v1/traces", self._receive, methods=["POST"]),
                Mount("/static", StaticFiles(directory=FOLDER / "static")),
            ],
            middleware=[Middleware(GZipMiddleware, minimum_size=2_000)],
            exception_handlers={404: self._not_found},
            lifespan=lifespan,
        )

    def _guarded(self, page: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def respond(request: Request) -> Response:
            try:
                return page(request)
            except (sqlite3.Error, OSError) as error:
                return self._failed(request, f"the store or its index cannot be read: {error}", 503)

        return respond

    @contextmanager
    def _indexing(self) -> Generator[None]:
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                progress = Progress(0, 0)
                # An error is shown by the page that reads the same file.
                with suppress(sqlite3.Error, OSError):
                    progress = self._index.refresh(_EVERY_S)
                if progress.indexed >= progress.total:
                    stop.wait(_EVERY_S)

        thread = threading.Thread(target=work, name="spancast-ui-index", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _fresh(self) -> Progress:
        """Return the progress of the index, with what came in since the thread's last turn."""
        return self._index.refresh(_FRESH_S)

    # --- lists ------------------------------------------------------------------------------------

    def _list(self, request: Request) -> Response:
        progress = self._fresh()
        selection = self._selection(request.query_params)
        rows, following = self._index.page(replace(selection.query, limit=_PAGE))
        more = "" if following is None else selection.address(before=following)
        digest = hashlib.sha256(repr((rows, progress)).encode("utf-8", "replace")).hexdigest()[:16]
        if request.query_params.get("have") == digest:
            return Response(status_code=204)
        context: dict[str, Any] = {
            "rows": rows,
            "more": more,
            "digest": digest,
            "progress": progress,
            "selection": selection,
            "given": request.query_params,
            "is_first": selection.query.before is None,
            "models": self._index.values(MODEL),
            "providers": self._index.values(PROVIDER),
            "keys": self._index.values(""),
        }
        return self._page(request, "rows.html" if "have" in request.query_params else "list.html", **context)

    def _selection(self, params: QueryParams) -> Selection:
        problems: list[str] = []

        def read(name: str, reader: Callable[[str], float]) -> float | None:
            text = params.get(name, "").strip()
            try:
                return reader(text) if text else None
            except ValueError as error:
                problems.append(f"{name}: {error}")
                return None

        def ago(text: str) -> float:
            return max(time.time() - read_duration(text), 0) * _NS_PER_S

        keys = [(key, given) for name, key in _KEY_FILTERS.items() if (given := params.get(name, "").strip())]
        keys = [self._known_model(one) if one[0] == MODEL else one for one in keys]
        where = params.get("where", "").strip()
        pairs = _WHERE.findall(where)
        if where and not pairs:
            problems.append(f"where: expected key=value, got {where!r}")
        keys += [(key, value.strip('"')) for key, value in pairs]
        since, longest = read("since", ago), read("min_s", _bounded)
        query = TraceQuery(
            words=params.get("q", ""),
            keys=keys,
            min_cost=read("min_cost", _bounded),
            min_ns=None if longest is None else int(longest * _NS_PER_S),
            since_ns=None if since is None else int(since),
            before=_whole(params.get("before", "")),
        )
        kept = [(name, value) for name, value in params.multi_items() if name not in ("have", "before") and value]
        return Selection(query, tuple(kept), tuple(problems), tuple(dict.fromkeys(filter(None, params.getlist("col")))))

    def _known_model(self, given: tuple[str, str]) -> tuple[str, str]:
        """Return the model whose name contains what was typed, if there is only one; else the name as it is."""
        known = self._index.values(MODEL)
        matching = [name for name in known if given[1].lower() in name.lower()]
        return (MODEL, matching[0]) if len(matching) == 1 and given[1] not in known else given

    def _sessions(self, request: Request) -> Response:
        progress = self._fresh()
        before = _whole(request.query_params.get("before", ""))
        rows = self._index.sessions(before, _PAGE + 1)
        more = f"/sessions?before={rows[_PAGE - 1].end_ns}" if len(rows) > _PAGE else ""
        return self._page(request, "sessions.html", rows=rows[:_PAGE], more=more, progress=progress)

    def _totals(self, request: Request) -> Response:
        progress = self._fresh()
        params = request.query_params
        by, since = params.get("by", "day"), params.get("since", "30d")
        selection = self._selection(params)
        since_ns = selection.query.since_ns
        if since_ns is None:
            since_ns = int(time.time() * _NS_PER_S) - _MONTH_NS if "since" not in params else 0
        if 0 < since_ns < time.time_ns() - _DAY_NS * 3 // 2:
            # Of more than a day, whole days.
            since_ns = day_begin(since_ns)
        most = _MAX_TIMES if by in _TIMES else _MAX_GROUPS
        rows = self._index.totals(_GROUPS.get(by, by), since_ns, selection.query.keys, most + 1)
        is_cut = len(rows) > most
        rows = rows[-most:] if by in _TIMES else rows[:most]
        # A call may have several values of a custom key, or none.
        is_all = by in _GROUPS and len(rows) > 1 and not is_cut
        return self._page(
            request, "totals.html", rows=rows, sum=_sum(rows) if is_all else None, cut=most if is_cut else 0,
            by=by, since=since, groups=_GROUPS, is_time=by in _TIMES, keys=self._index.values(""), selection=selection,
            progress=progress,
        )  # fmt: skip

    # --- one trace --------------------------------------------------------------------------------

    def _spans_of(self, trace_id: str) -> list[SpanData]:
        return self._store.trace(trace_id)

    def _trace(self, request: Request) -> Response:
        spans = self._spans_of(request.path_params["trace_id"])
        if not spans:
            return self._failed(request, f"no trace {request.path_params['trace_id']!r} in {self._store.path}", 404)
        self._fresh()
        view = trace_view(spans)
        span = view.find(request.query_params.get("span"))
        tab = request.query_params.get("tab", _TABS[0])
        fates, unknown = self._deliveries.of_trace(view.trace_id) if tab == "delivery" else ([], "")
        earlier = self._earlier(view, span)
        talk = self._conversation(view, span, earlier)
        numbers = self._numbers(view)
        if talk.since is not None and talk.since.trace_id != view.trace_id:
            numbers |= self._numbers(trace_view(self._store.trace(talk.since.trace_id)), view.session)
        return self._page(
            request, "trace.html", view=view, span=span, tabs=_TABS, tab=tab if tab in _TABS else _TABS[0], talk=talk,
            fates=fates, unknown=unknown, snippets=snippets(span) if tab == "copy" else None,
            previous=talk.since or next(iter(earlier), None), numbers=numbers,
            notes=[*problems(span), *self._masked(span)],
        )  # fmt: skip

    def _earlier(self, view: TraceView, span: SpanData) -> list[SpanData]:
        """Return earlier calls of the trace and of its session, the nearest first."""
        own = [one for one in view.spans if one.is_generation and one.start_ns < span.start_ns]
        found = sorted(own, key=lambda one: -one.start_ns)
        if view.session:
            found += self._calls(self._index.earlier_calls(view.session, view.start_ns))
        return found

    def _conversation(self, view: TraceView, span: SpanData, earlier: Sequence[SpanData]) -> Conversation:
        later = [one for one in view.spans if one.is_generation and one.start_ns > span.start_ns]
        talk = conversation_of(span, earlier, later)
        if view.session and any(part.kind == "call" and not part.result for one in talk.answers for part in one.parts):
            # The next question of a conversation, in another trace, may bring the result.
            later += self._calls(self._index.later_calls(view.session, view.start_ns))
            talk = conversation_of(span, earlier, later)
        return talk

    def _calls(self, wanted: Sequence[tuple[str, str]]) -> list[SpanData]:
        """Return the calls of these trace ids and span ids that are stored, in this order."""
        calls: dict[tuple[str, str], SpanData] = {}
        for trace_id in dict.fromkeys(trace_id for trace_id, _ in wanted):
            calls |= {(trace_id, one.span_id): one for one in self._store.trace(trace_id)}
        return [calls[one] for one in wanted if one in calls]

    def _numbers(self, view: TraceView, session: str = "") -> dict[str, int]:
        """Return the number of each call in its session, by span id; without a session in its trace."""
        session = session or view.session
        before = self._index.calls_before(session, view.start_ns) if session else 0
        calls = [one.span_id for one in view.spans if one.is_generation]
        return {span_id: before + number for number, span_id in enumerate(calls, 1)}

    def _masked(self, span: SpanData) -> Iterator[str]:
        """Yield what the masks of the configuration have left in the attributes of ``span``."""
        for text in self._replacements:
            counts = {name: str(value).count(text) for name, value in span.attributes.items()}
            if found := [f"{name} ({count})" for name, count in counts.items() if count]:
                yield f"masked, shown as {text}: {', '.join(found)}"

    def _static(self, request: Request) -> Response:
        spans = self._spans_of(request.path_params["trace_id"])
        if not spans:
            return self._not_found(request, None)
        name = f"trace-{spans[0].trace_id[:8]}.html"
        return Response(
            self._pages.static(spans),
            media_type="text/html",
            headers={
                "Content-Disposition": f'attachment; filename="{name}"',
                "Content-Security-Policy": "sandbox; default-src 'none'",
            },
        )

    def _spans(self, request: Request) -> Response:
        wanted = request.query_params.get("span")
        spans = self._spans_of(request.path_params["trace_id"])
        return JSONResponse([span_json(one) for one in spans if wanted in (None, one.span_id)])

    def _text(self, request: Request) -> Response:
        """Return one attribute as it was recorded."""
        name = request.query_params.get("name", "")
        for span in self._spans_of(request.path_params["trace_id"]):
            if span.span_id == request.path_params["span_id"] and name in span.attributes:
                return PlainTextResponse(span.text(name) or "")
        return self._not_found(request, None)

    def _session(self, request: Request) -> Response:
        self._fresh()
        session = request.query_params.get("id", "")
        sums = self._index.session(session)
        if sums is None:
            return self._failed(request, f"no session {session!r} in {self._store.path}", 404)
        ids = self._index.traces_of(session)
        offset = _whole(request.query_params.get("from", "")) or 0
        turns: list[tuple[TraceView, SpanData, Conversation]] = []
        numbers: dict[str, int] = {}
        left_out = 0
        earlier: list[SpanData] = []
        used = 0
        for trace_id in ids[offset:]:
            spans = self._store.trace(trace_id)
            used += 1
            if not spans:
                continue
            view = trace_view(spans)
            numbers |= self._numbers(view, session)
            calls = [span for span in view.spans if span.is_generation]
            left_out = max(len(calls) - _MAX_TURNS, 0)
            for span in calls[:_MAX_TURNS]:
                turns.append((view, span, conversation_of(span, earlier[:_MAX_EARLIER], ())))
                earlier.insert(0, span)
            if left_out or len(turns) >= _MAX_TURNS:
                break
        more = offset + used if offset + used < len(ids) else 0
        return self._page(
            request,
            "session.html",
            sums=sums,
            turns=turns,
            more=more,
            left_out=left_out,
            numbers=numbers,
            cached=self._index.cached_tokens(session),
        )

    def _compare(self, request: Request) -> Response:
        self._fresh()
        sides: list[tuple[TraceView, SpanData, Conversation]] = []
        for name in ("a", "b"):
            trace_id, _, span_id = request.query_params.get(name, "").partition("/")
            spans = self._spans_of(trace_id) if trace_id else []
            if not spans:
                return self._failed(request, f"no call {trace_id}/{span_id} in {self._store.path}", 404)
            view = trace_view(spans)
            span = view.find(span_id)
            sides.append((view, span, conversation_of(span, [one[1] for one in sides], ())))
        numbers = {span_id: number for view, _, _ in sides for span_id, number in self._numbers(view).items()}
        return self._page(request, "compare.html", sides=sides, numbers=numbers)

    # --- destinations -----------------------------------------------------------------------------

    def _destinations(self, request: Request) -> Response:
        notice = self._notices.get(request.query_params.get("notice", ""), "")
        return self._page(request, "destinations.html", overview=self._deliveries.overview(), notice=notice)

    async def _spool(self, request: Request) -> Response:
        form = await _form(request)
        action, destination = form.get("action", ""), form.get("destination", "")
        sequences = [number for one in form.get("sequences", "").split() if (number := _whole(one)) is not None]
        if action not in ("retry", "requeue", "purge", "replay"):
            return PlainTextResponse("unknown action", 400)
        trace_id = form.get("trace", "")
        notice = await run_in_threadpool(self._deliveries.act, action, destination, sequences, trace_id)
        return RedirectResponse(f"/destinations?notice={self._noted(notice)}", 303)

    def _noted(self, text: str) -> str:
        """Keep ``text`` for the next page; an address must not be able to make the page say something."""
        if len(self._notices) >= _MAX_NOTICES:
            self._notices.clear()
        name = secrets.token_hex(8)
        self._notices[name] = text
        return name

    async def _receive(self, request: Request) -> Response:
        return await receiver.receive(request, self._write)

    def _write(self, spans: Sequence[SpanData]) -> None:
        if spans:
            self._store.write([self._redaction.apply(one) for one in spans] if self._redaction else spans)

    # --- a selection as a file; deletions ---------------------------------------------------------

    def _every(self, request: Request) -> Iterator[TraceRow]:
        query = replace(self._selection(request.query_params).query, limit=1_000)
        count = 0
        while count < _MAX_EXPORT:
            rows, following = self._index.page(query)
            yield from rows
            count += len(rows)
            if following is None:
                return
            query = replace(query, before=following)

    def _jsonl(self, request: Request) -> Response:
        lines = (
            f"{span_json_line(span)}\n" for row in self._every(request) for span in self._store.trace(row.trace_id)
        )
        return StreamingResponse(
            lines,
            media_type="application/x-ndjson",
            headers={"Content-Disposition": "attachment; filename=spans.jsonl"},
        )

    def _csv(self, request: Request) -> Response:
        def lines() -> Iterator[str]:
            buffer = io.StringIO()
            writer = csv.writer(buffer)
            writer.writerow(_CSV)
            for row in self._every(request):
                values = self._pages.csv_values(row)
                writer.writerow([_no_formula(values[name]) for name in _CSV])
                yield buffer.getvalue()
                buffer.seek(0)
                buffer.truncate()
            yield buffer.getvalue()

        return StreamingResponse(
            lines(),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": "attachment; filename=traces.csv"},
        )

    async def _delete(self, request: Request) -> Response:
        form = await _form(request)
        trace_id, session, everything = (form.get(name, "") for name in ("trace", "session", "everything"))
        if everything == "delete everything":
            ids = None
        elif session:
            ids = await run_in_threadpool(self._index.traces_of, session, _MAX_EXPORT)
        else:
            ids = [trace_id] if trace_id else []
        await run_in_threadpool(self._store.delete, ids)
        return RedirectResponse("/sessions" if session else "/", 303)

    # --- responses --------------------------------------------------------------------------------

    def _page(self, request: Request, template: str, status: int = 200, **context: Any) -> Response:  # noqa: ANN401
        html = self._pages.render(template, path=request.url.path, **context)
        return Response(html, status, media_type="text/html")

    def _failed(self, request: Request, text: str, status: int) -> Response:
        return self._page(request, "failed.html", status, text=text)

    def _not_found(self, request: Request, _: object) -> Response:
        return self._failed(request, "there is no such page", 404)


def _sum(rows: Sequence[Sums]) -> Sums:
    """Return the sums of all groups; a percentile of them is not known."""
    return Sums(
        group="", calls=sum(row.calls for row in rows), errors=sum(row.errors for row in rows), p50_ms=0.0, p95_ms=0.0,
        input=sum(row.input for row in rows), output=sum(row.output for row in rows),
        cached=sum(row.cached for row in rows), cost=sum(row.cost for row in rows),
        is_estimated=any(row.is_estimated for row in rows),
    )  # fmt: skip


def _whole(text: str) -> int | None:
    """Return a whole number of an address; None if it is none, or larger than SQLite's."""
    return int(text) if text.isdecimal() and len(text) < _MAX_DIGITS else None


def _bounded(text: str) -> float:
    value = float(text)
    if not abs(value) <= _MAX_NUMBER:
        raise ValueError(f"expected a number of at most {_MAX_NUMBER:g}, got {text[:20]}")
    return value


async def _form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM:
            return {}
    return dict(parse_qsl(body.decode("utf-8", "replace")))


def span_json_line(span: SpanData) -> str:
    """Return ``span`` as one line of JSON."""
    return json_codec.encode(span_json(span))


def _no_formula(value: object) -> object:
    # A spreadsheet would run a text that begins like a formula.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
