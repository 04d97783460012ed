"""One trace, drawn for a terminal: a summary, the tree, and what is particular about each span."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich.text import Text

from spancast.cli.content_view import content_lines
from spancast.cli.formatting import moment, number, size
from spancast.cli.terminal import ERROR, FAINT, GAP, HEADING, MODEL, WARNING, Line, cut, folded, tied, untied, width
from spancast.encoding import amounts
from spancast.encoding.genai_fields import completion, finish_reason, model_parameters, own_keys, raw_trace_id
from spancast.encoding.redaction import MASKING_FAILED
from spancast.encoding.span_data import SpanData
from spancast.encoding.tree_view import Branch, branches, printable, totals
from spancast.encoding.truncation import ORIGINAL_BYTES, TRUNCATED
from spancast.model import json_codec, semconv
from spancast.model.attribute_values import count_of
from spancast.model.json_codec import is_list
from spancast.model.trace_keys import OVERFLOW_ATTRIBUTE
from spancast.model.truncation import MARK

_NS_PER_S: Final = 1_000_000_000
_MS_PER_S: Final = 1_000
_SEPARATOR: Final = " · "
_VALUE_ROOM: Final = 48
_LEAST_NAME: Final = 24
_SHORTEST_NAME: Final = 8
_ERROR_ROOM: Final = 400
_LABEL_ROOM: Final = 9
_OF_RESPONSE: Final = frozenset({"upstream", "finish", "stream", "cached", "reasoning"})
_SERVICE_NAME: Final = "service.name"

_Facts = Mapping[str, str]
"""What is known about a call beside its amounts: text by the name of the fact."""


class _Row(NamedTuple):
    """A line of the tree, and the facts and problems below it."""

    first: str
    rest: str
    name: Text
    amounts: tuple[str, str, str]
    model: Text
    facts: Text
    problems: list[Text]


def trace_lines(spans: Sequence[SpanData], *, with_content: bool) -> Iterator[Line]:
    """Yield the lines of a trace, ``with_content`` also the messages of every call."""
    calls = [span for span in spans if span.is_generation]
    models = {model: [span for span in calls if _model(span) == model] for model in dict.fromkeys(map(_model, calls))}
    shared = {model: _shared_facts(of_model) for model, of_model in models.items()}
    keys = _shared([_keys(span) for span in calls or spans])
    yield _title(spans[0])
    yield from _line("started", _origin(spans))
    yield from _line("total", _sums(spans))
    for position, (model, of_model) in enumerate(models.items()):
        count = [Text(tied(number(len(of_model), "call")))] if len(models) > 1 else []
        name = Text(tied(printable(model)), MODEL)
        label = "" if position else "models" if len(models) > 1 else "model"
        yield from _line(label, [name, *count, *_texts_of(shared[model])])
    yield from _line("keys", _texts_of(keys))
    yield ""
    yield from _drawn(_rows(spans, shared, keys), with_models=len(models) > 1)
    if with_content:
        yield from content_lines(spans)


def _model(span: SpanData) -> str:
    return span.text(semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL) or ""


def _shared_facts(calls: Sequence[SpanData]) -> _Facts:
    """Return the facts of most ``calls`` of a model; the finish reason of a single call stays beside it."""
    counts = Counter(fact for span in calls for fact in _facts(span).items())
    return {
        name: text
        for (name, text), count in counts.items()
        if count * 2 > len(calls) and (len(calls) > 1 or name not in _OF_RESPONSE)
    }


def _shared(every: Sequence[_Facts]) -> _Facts:
    """Return what all have in common."""
    first: _Facts = every[0] if every else {}
    return {name: text for name, text in first.items() if all(one.get(name) == text for one in every)}


def _title(span: SpanData) -> Text:
    title, raw = Text().append(span.trace_id, HEADING), raw_trace_id(span)
    return title if raw == span.trace_id else title.append(f" ({cut(raw, _VALUE_ROOM)})")


def _texts_of(facts: _Facts) -> list[Text]:
    return [Text(tied(printable(text))) for text in facts.values()]


def _line(label: str, items: Iterable[Text]) -> Iterator[Text]:
    joined = _joined(items)
    if joined:
        yield from folded(joined, " " * (_LABEL_ROOM + 2), Text(f"  {label:<{_LABEL_ROOM}}", FAINT))


def _joined(items: Iterable[Text]) -> Text:
    return Text().join(part for item in items for part in (Text(_SEPARATOR, FAINT), item))[len(_SEPARATOR) :]


def _origin(spans: Sequence[SpanData]) -> Iterator[Text]:
    yield Text(moment(min(span.start_ns for span in spans) / _NS_PER_S))
    services = {service: None for span in spans if (service := span.resource.attributes.get(_SERVICE_NAME))}
    if services:
        yield Text(tied(cut(f"service {', '.join(map(str, services))}", _VALUE_ROOM)))
    for name, attribute in (("session", semconv.SESSION_ID), ("user", semconv.USER_ID)):
        value = next((found for span in spans if (found := span.text(attribute))), None)
        if value:
            yield Text(tied(cut(f"{name} {value}", _VALUE_ROOM)))


def _sums(spans: Sequence[SpanData]) -> Iterator[Text]:
    sums = totals(spans)
    yield Text(tied(number(sums.calls, "call")))
    if sums.input_tokens or sums.output_tokens:
        yield Text(tied(f"{amounts.tokens(sums.input_tokens, sums.output_tokens)} tokens"))
    if sums.cost is not None:
        yield Text(amounts.cost(sums.cost, is_estimated=sums.is_estimated), HEADING)
    end_ns = max(span.end_ns for span in spans)
    yield Text(tied(amounts.duration(max(end_ns - min(span.start_ns for span in spans), 0))))
    errors = sum(span.status == "error" for span in spans)
    if errors:
        yield Text(tied(number(errors, "error")), ERROR)


# --- the tree -------------------------------------------------------------------------------------


def _rows(spans: Sequence[SpanData], shared: Mapping[str, _Facts], keys: _Facts) -> list[_Row]:
    inherited: dict[str, _Facts] = {}
    rows: list[_Row] = []
    for branch in branches(spans):
        span = branch.span
        known = inherited.get(span.parent_span_id, keys)
        own = {name: text for name, text in _keys(span).items() if known.get(name) != text}
        inherited[span.span_id] = {**known, **own}
        rows.append(_row(branch, shared.get(_model(span), {}), own))
    return rows


def _row(branch: Branch, shared: _Facts, keys: _Facts) -> _Row:
    span = branch.span
    is_failed = span.status == "error"
    own = _facts(span)
    facts = {name: text for name, text in own.items() if shared.get(name) != text}
    facts |= {name: f"no {name}" for name in shared if name not in own and name not in _OF_RESPONSE}
    model = _model(span)
    return _Row(
        branch.first,
        branch.rest,
        Text(printable(span.name), ERROR if is_failed else HEADING if span.is_generation else ""),
        (amounts.span_duration(span), amounts.span_tokens(span), amounts.span_cost(span)),
        Text("" if model in span.name else printable(model), MODEL),
        _joined(Text(tied(printable(text)), FAINT) for text in (*facts.values(), *keys.values())),
        list(_problems(span)),
    )


def _drawn(rows: Sequence[_Row], *, with_models: bool) -> Iterator[Text]:
    amount_widths = [max(len(row.amounts[column]) for row in rows) for column in range(3)]
    room = width() - sum(one + len(GAP) for one in amount_widths if one)
    name_room = min(max(len(row.first) + row.name.cell_len for row in rows), room, max(width() // 2, _LEAST_NAME))
    if with_models:
        # Names are shortened, within limits, so that the models fit beside the amounts.
        name_room = min(name_room, max(room - len(GAP) - max(row.model.cell_len for row in rows), _LEAST_NAME))
    deepest = max(name_room // 2, _SHORTEST_NAME)
    for row in rows:
        line = Text().append(_shallow(row.first, deepest), FAINT).append_text(row.name)
        line.truncate(max(name_room, _SHORTEST_NAME), overflow="ellipsis", pad=True)
        for amount, one in zip(row.amounts, amount_widths, strict=True):
            if one:
                line.append(GAP).append(amount.rjust(one))
        beside, below = _placed(row.model if with_models else Text(), row.facts, width() - line.cell_len - len(GAP))
        line.append(GAP).append_text(untied(beside))
        line.rstrip()
        yield line
        rest = _shallow(row.rest, deepest)
        for more in [*([below] if below else []), *row.problems]:
            for part in folded(more, rest + GAP):
                part.stylize(FAINT, 0, len(rest))
                yield part


def _shallow(lines: str, room: int) -> str:
    """Return the lines of a tree, of a deep tree only the innermost, so that there is room for the name."""
    return lines if len(lines) <= room else "… " + lines[2 - room :]


def _placed(model: Text, facts: Text, room: int) -> tuple[Text, Text]:
    """Return what stands beside the amounts, in ``room``, and what below them."""
    every = _joined(one for one in (model, facts) if one)
    if every.cell_len <= room:
        return every, Text()
    return (model, facts) if model and model.cell_len <= room else (Text(), every)


def _keys(span: SpanData) -> _Facts:
    return {name: f"{name}={_value(value)}" for name, value in own_keys(span).items()}


def _facts(span: SpanData) -> _Facts:
    if not span.is_generation:
        return {}
    facts: dict[str, str] = {}
    if provider := span.text(semconv.PROVIDER_NAME):
        facts["provider"] = provider
    if upstream := span.text(semconv.RESPONSE_PROVIDER):
        facts["upstream"] = f"answered by {upstream}"
    reason = finish_reason(span)
    if reason and reason != "error":
        facts["finish"] = f"{reason}{_called(span)}"
    waited_s = span.number(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
    if waited_s is not None:
        facts["stream"] = f"first chunk {waited_s * _MS_PER_S:.0f} ms"
    elif span.first(semconv.REQUEST_STREAM) is True:
        facts["stream"] = "streamed"
    for name, attribute in (("cached", semconv.USAGE_CACHE_READ), ("reasoning", semconv.USAGE_REASONING)):
        if count := count_of(span.first(attribute)):
            facts[name] = f"{count:,} {name}"
    facts |= {name: f"{name}={_value(value)}" for name, value in model_parameters(span).items()}
    return facts


def _called(span: SpanData) -> str:
    calls = (completion(span) or {}).get("toolCalls") or ()
    return f": {', '.join(str(call['function']['name']) for call in calls)}" if calls else ""


def _value(value: Any) -> str:  # noqa: ANN401 - any attribute value
    return cut(value if isinstance(value, str) else json_codec.encode(value), _VALUE_ROOM)


def _problems(span: SpanData) -> Iterator[Text]:
    if span.status == "error":
        kind = span.text(semconv.ERROR_TYPE) or "error"
        message = f": {cut(span.status_message, _ERROR_ROOM)}" if span.status_message else ""
        yield Text(f"✗ {printable(kind)}{message}", ERROR)
    for text in _warnings(span):
        yield Text(f"! {printable(text)}", WARNING)


def _warnings(span: SpanData) -> Iterator[str]:
    yield from _texts(span.first(semconv.PROBLEMS))
    if incomplete := span.text(semconv.RESPONSE_INCOMPLETE):
        yield f"the stream did not end: {incomplete}"
    if names := _texts(span.first(semconv.REDACTED)):
        yield f"left out, may be content: {', '.join(names)}"
    if names := [name for name, value in span.attributes.items() if isinstance(value, str) and MASKING_FAILED in value]:
        yield f"mask failed, value left out: {', '.join(names)}"
    if names := list(_truncated(span)):
        yield f"truncated: {', '.join(names)}"
    if semconv.OVERFLOW in span.attributes or OVERFLOW_ATTRIBUTE in span.attributes:
        yield "more attributes than the span may have; the rest as JSON: --json"


def _truncated(span: SpanData) -> Iterator[str]:
    for name, value in span.attributes.items():
        original = span.count(name + ORIGINAL_BYTES)
        if span.first(name + TRUNCATED) is True:
            yield name if original is None else f"{name} of {size(original)}"
        elif isinstance(value, str) and (MARK in value or "openrouter_truncated" in value):
            yield name


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if is_list(value) else [] if value is None else [str(value)]
