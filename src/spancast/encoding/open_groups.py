"""The open groups of a trace, known from the calls that have ended: their names, and the ids of their parents.

A group span is exported when it ends. Until then its calls have a parent that is not among the spans. A call in a group
of a ``span_name`` has that name; the root group has the ``trace_name``, which every span of the trace has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from spancast.encoding.span_data import SpanData
from spancast.model import semconv


def open_groups(spans: Iterable[SpanData]) -> Mapping[str, SpanData]:
    """Return the open groups above ``spans`` (of one trace or more) by the id that their children have as parent.

    Their ``end_ns`` is 0. If a parent is another open span (a request of a web server, a block inside a block), the
    name of the trace stands for it.
    """
    ordered = sorted(spans, key=lambda span: (semconv.SPAN_NAME not in span.attributes, span.start_ns))
    known = {span.span_id for span in ordered}
    # The caller named the parent: it is a span of another process, or of none.
    under_named = {span.parent_span_id for span in ordered if semconv.RAW_PARENT_SPAN_ID in span.attributes}
    roots: dict[tuple[str, str], SpanData] = {}
    groups: dict[str, SpanData] = {}
    for span in ordered:
        missing, trace_name = span.parent_span_id, span.text(semconv.TRACE_NAME)
        if not missing or missing in known or missing in groups:
            continue
        span_name = span.text(semconv.SPAN_NAME)
        root = None
        if trace_name and not {missing, span.span_id} & under_named:
            root = roots.setdefault(
                (span.trace_id, trace_name), _group(f"{span.trace_id} {trace_name}", trace_name, span)
            )
            root.start_ns = min(root.start_ns, span.start_ns)
        if span_name:
            groups[missing] = _group(missing, span_name, span, "" if root is None else root.span_id)
        elif root is not None:
            groups[missing] = root
    return groups | {root.span_id: root for root in roots.values()}


def _group(span_id: str, name: str, child: SpanData, parent: str = "") -> SpanData:
    return SpanData(
        trace_id=child.trace_id,
        span_id=span_id,
        parent_span_id=parent,
        name=name,
        kind=child.kind,
        start_ns=child.start_ns,
        end_ns=0,
        status="unset",
        status_message="",
        attributes={},
        resource=child.resource,
        scope=child.scope,
    )
