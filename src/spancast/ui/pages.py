"""Templates: the environment with its filters, and the static page of one trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from spancast.destinations.store_index import HIT_END, HIT_START, TraceRow
from spancast.destinations.store_sums import key_text
from spancast.encoding import amounts
from spancast.encoding.genai_fields import iso_time
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec
from spancast.model.json_codec import is_list, is_mapping
from spancast.ui import markup, trace_view
from spancast.ui.conversation import Conversation, conversation_of

FOLDER: Final = Path(__file__).parent
_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_PER_CENT: Final = 100
_CHIPS: Final = 30
_NEAR: Final = 40
"""Calls before and after one that are compared with it."""
_FILE: Final = 20
"""How much more a file of a whole trace shows than a page."""


class Pages:
    """The templates, with ``store``, the path that every page names."""

    def __init__(self, store: str) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=markup_or_visible,
        )
        filters: dict[str, Any] = {
            "clock": clock, "moment": moment, "iso": iso_time, "duration": amounts.duration, "tokens": _tokens,
            "markdown": markup.markdown, "json_tree": markup.json_tree, "json_of": markup.json_of, "quote": _quote,
            "found": _found, "coded": markup.coded, "json": json_codec.encode,
            "key_text": key_text, "plain": markup.plain_attributes,
        }  # fmt: skip
        names: dict[str, Any] = {
            "cost": amounts.cost, "span_cost": amounts.span_cost, "span_tokens": amounts.span_tokens,
            "span_duration": amounts.span_duration, "facts": trace_view.facts, "problems": trace_view.problems,
            "failure": trace_view.failure, "usage": trace_view.usage, "request_of": trace_view.request_of,
            "model_of": trace_view.model_of, "max_shown": markup.MAX_SHOWN, "long": markup.LONG, "store": store,
            "is_list": is_list, "max_rows": markup.MAX_ROWS, "max_chips": _CHIPS,
            "is_mapping": is_mapping, "share": _share, "chunks_of": trace_view.chunks_of,
        }  # fmt: skip
        self._environment.filters.update(filters)  # pyright: ignore[reportUnknownMemberType] - untyped in jinja2
        self._environment.globals.update(names)  # pyright: ignore[reportUnknownMemberType]

    def render(self, template: str, **context: Any) -> str:  # noqa: ANN401
        """Return the page of ``template``."""
        return self._environment.get_template(template).render({"room": markup.Room(), **context})

    def static(self, spans: Sequence[SpanData]) -> str:
        """Return one trace as a file: every call under its name, without scripts or links to a server."""
        view = trace_view.trace_view(spans)
        calls = [row.span for row in view.rows]
        talks: dict[str, Conversation] = {}
        for position, span in enumerate(calls):
            earlier = (one for one in reversed(calls[:position]) if one.is_generation)
            later = (one for one in islice(calls, position + 1, None) if one.is_generation)
            talks[span.span_id] = conversation_of(span, [*islice(earlier, _NEAR)], [*islice(later, _NEAR)])
        style = (FOLDER / "static" / "page.css").read_text(encoding="utf-8")
        numbers = {span.span_id: number for number, span in enumerate(filter(lambda one: one.is_generation, spans), 1)}
        return self.render(
            "static.html",
            view=view,
            talks=talks,
            numbers=numbers,
            style=Markup(style),  # noqa: S704 - our own file
            room=markup.Room(_FILE),
        )

    def csv_values(self, row: TraceRow) -> dict[str, Any]:
        """Return the values of ``row`` for a table."""
        values = asdict(row)
        return {
            **values,
            "start": iso_time(row.start_ns),
            "models": ", ".join(row.models),
            "duration_ms": (row.end_ns - row.start_ns) / _NS_PER_MS,
        }


def markup_or_visible(value: object) -> object:
    """Return what a template prints: markup as it is, any other text with its control characters visible."""
    return value if isinstance(value, Markup) else markup.visible(value)


def span_json(span: SpanData) -> dict[str, Any]:
    """Return ``span`` as JSON data, attributes that hold JSON decoded."""
    fields = {name: value for name, value in asdict(span).items() if name != "cache"}
    fields["attributes"] = dict(markup.plain_attributes(span.attributes))
    return {**fields, "start": iso_time(span.start_ns), "duration_ms": span.duration_ms}


def moment(at_ns: float) -> str:
    """Return ``29 Nov 2026, 20:12:52`` in local time."""
    return f"{_local(at_ns):%-d %b %Y, %H:%M:%S}" if at_ns else "never"


def clock(at_ns: float) -> Markup:
    """Return ``29 Nov 20:12:52`` in local time, with the exact time for the pointer."""
    return Markup('<time datetime="{}" title="{}">{} <b>{}</b></time>').format(
        iso_time(int(at_ns)), iso_time(int(at_ns)), f"{_local(at_ns):%-d %b}", f"{_local(at_ns):%H:%M:%S}"
    )


def _local(at_ns: float) -> datetime:
    return datetime.fromtimestamp(at_ns / _NS_PER_S, tz=UTC).astimezone()


def _tokens(row: Any) -> str:  # noqa: ANN401 - a row with `input` and `output`
    return amounts.tokens(row.input, row.output)


def _share(part: int | None, of: int | None) -> str:
    """Return ``part`` of ``of`` in per cent; empty if nothing."""
    if not part or not of:
        return ""
    return "< 1 %" if part * _PER_CENT < of else f"{part * _PER_CENT // of} %"


def _quote(text: str) -> str:
    return quote(text, safe="")


def _found(text: str) -> Markup:
    return markup.highlighted(text, HIT_START, HIT_END)
