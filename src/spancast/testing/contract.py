"""Contract suites for destinations and dialects, the same as for the built-in ones; call them in a test.

For example::

    check_destination(MyDestination, unreachable=lambda: MyDestination(port=1), secrets=["my-key"])
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from opentelemetry.sdk.trace import TracerProvider

from spancast import runtime
from spancast.config.settings import load as load_settings
from spancast.destinations.protocol import Delivered
from spancast.destinations.registry import create
from spancast.diagnostics import logger, reset_warnings
from spancast.dialects.canned_answers import CannedAnswers
from spancast.dialects.protocol import Dialect
from spancast.export.flush_report import DestinationReport
from spancast.model import json_codec, semconv
from spancast.model.call import Request, Response
from spancast.model.entry_points import load

_NAME: Final = "checked"
_OUTAGE_S: Final = 0.5
_COUNT: Final = 3
"""Spans per batch; in one batch, one of them has unusual values."""
_ODD_VALUES: Final[Mapping[str, Any]] = {
    "odd.text": "\x00 \ud800 \x1b[31m",
    "odd.number": float("nan"),
    "odd.integer": 2**63 - 1,
    "odd.list": ["a", "b"],
    "odd.long": "x" * 100_000,
}
_NO_ANSWERS: Final[tuple[Any, ...]] = (
    None,
    7,
    "",
    [],
    {},
    b"<html>",
    {"error": None},
    {"error": {"message": "no"}},
    [[{}]],
)


def check_destination(
    factory: Callable[[], object],
    *,
    unreachable: Callable[[], object] | None = None,
    secrets: Iterable[str] = (),
    timeout_s: float = 30.0,
) -> None:
    """Test a destination against the contract. This configures spancast and shuts it down at the end.

    Args:
        factory: Returns a value for ``configure(destinations={"name": …})``: an object with ``deliver``, or a mapping
            with ``type``. Its server must accept every span.
        unreachable: Returns the same kind of value for an address without a server.
        secrets: Credentials that ``factory`` uses; none may appear in logs, reports and representations.
        timeout_s: Seconds after which a batch that is still queued counts as failed.

    Raises:
        AssertionError: The destination violates the contract; the message says how.
    """
    texts: list[str] = []
    with _logged(texts):
        given = factory()
        config = load_settings(None, {"destinations": {_NAME: given}}).destinations[_NAME]
        destination = create(config, _NAME)
        outcome = destination.test_connection(timeout_s)
        destination.close()
        _require(isinstance(outcome, Delivered), f"test_connection: expected Delivered, got {outcome!r}")
        # A mapping belongs to the test and holds its credentials.
        texts += [
            "" if isinstance(given, Mapping) else repr(given),
            repr(config),
            repr(destination),
            repr(outcome),
            config.fingerprint(),
        ]

        report = _sent(factory(), {}, timeout_s)
        _require(report.delivered == _COUNT, f"of {_COUNT} spans {report.delivered} were delivered: {report}")
        texts.append(repr(report))

        report = _sent(factory(), _ODD_VALUES, timeout_s)
        _require(not report.queued, f"a span with odd values is still tried again, which holds up others: {report}")
        _require(report.delivered >= _COUNT - 1, f"a span with odd values cost others: {report}")
        texts.append(repr(report))

        if unreachable is not None:
            report = _sent(unreachable(), {}, _OUTAGE_S)
            _require(not report.delivered, f"spans were delivered to where no server is: {report}")
            _require(report.queued == _COUNT, f"in an outage spans must wait to be sent later: {report}")
            texts.append(repr(report))
    for secret in secrets:
        _require(not any(secret in text for text in texts), "a secret is in a log, a report or a representation")


def check_dialect(dialect: Dialect, recordings: Mapping[str, Mapping[str, Any]]) -> None:
    """Test a dialect against the contract.

    Args:
        dialect: The dialect.
        recordings: Recorded traffic by name, each ``{"request": body, "response": answer}`` or
            ``{"request": body, "stream": [event, …]}``. The stream of the response ``name`` is ``name.stream``. With a
            ``path``, the canned answers of the dialect are tested too.

    Raises:
        AssertionError: The dialect violates the contract; the message names the recording.
    """
    _require(bool(dialect.name and dialect.provider and dialect.operation), "name, provider and operation are needed")
    _require(dialect.operation in dialect.span_name("m-1"), f"{dialect.span_name('m-1')!r} does not name the operation")
    dialect.error_attributes(ValueError())
    for odd in _NO_ANSWERS:
        _read(dialect, odd)
        _streamed(dialect, [odd, odd])
        dialect.read_request({"model": odd, "messages": odd, "contents": odd, "input": odd}, content=True)
    for name, recording in recordings.items():
        _check_recording(dialect, name, recording)
        stream = recordings.get(f"{name}.stream")
        if stream is not None and "response" in recording:
            whole, streamed = _read(dialect, recording["response"]), _streamed(dialect, stream["stream"])
            _require(streamed.messages == whole.messages, f"{name}: the stream gives other messages than the answer")
            _require(streamed.usage == whole.usage, f"{name}: the stream gives another usage than the answer")
            _require(streamed.finish_reasons == whole.finish_reasons, f"{name}: the stream gives other finish reasons")
        if dialect.answers is not None and "path" in recording:
            _check_canned_answer(dialect, dialect.answers, name, recording)


def _check_recording(dialect: Dialect, name: str, recording: Mapping[str, Any]) -> None:
    before = copy.deepcopy(dict(recording))
    body, unknown = recording["request"], {"something_new": {"deep": [1]}}
    asked = dialect.read_request(body, content=True)
    _require(bool(asked.messages), f"{name}: the request has no messages")
    _require_no_content(dialect.read_request(body, content=False), f"{name}: request")
    _require(
        dialect.read_request({**body, **unknown}, content=True).messages == asked.messages,
        f"{name}: an unknown field of the request changes its messages",
    )
    if "response" in recording:
        answer = recording["response"]
        _require_no_content(dialect.read_response(answer, content=False), f"{name}: answer")
        if json_codec.is_mapping(answer):
            _require(
                _read(dialect, {**answer, **unknown}).messages == _read(dialect, answer).messages,
                f"{name}: an unknown field of the answer changes its messages",
            )
    for count in range(len(recording.get("stream", ())) + 1):
        # A stream may be closed after any event; the part that arrived must be readable.
        _streamed(dialect, recording.get("stream", ())[:count])
    _require_no_content(_streamed(dialect, recording.get("stream", ()), content=False), f"{name}: stream")
    _require(dict(recording) == before, f"{name}: reading changes what was given")


def _check_canned_answer(dialect: Dialect, reference: str, name: str, recording: Mapping[str, Any]) -> None:
    answers: CannedAnswers = load(reference)
    path, body = recording["path"], recording["request"]
    _require(answers.serves(path), f"{name}: {reference} does not serve {path}")
    canned = answers.answer(path, body, serial=1, openrouter=False)
    whole = _read(dialect, canned.answer)
    is_embedding = dialect.operation == "embeddings"
    # Some embeddings are vectors only.
    is_known = whole.usage or whole.attributes if is_embedding else (whole.id or whole.usage) and whole.messages
    _require(bool(is_known), f"{name}: the canned answer has no message, or neither id nor usage")
    if canned.events is not None:
        _require(_streamed(dialect, canned.events).messages == whole.messages, f"{name}: canned events say otherwise")


def _read(dialect: Dialect, answer: object) -> Response:
    return dialect.read_response(answer, content=True)


def _streamed(dialect: Dialect, events: Iterable[object], *, content: bool = True) -> Response:
    reader = dialect.new_stream(content=content)
    for event in events:
        reader.feed(event)
        reader.is_usage_only(event)
    result = reader.result()
    _require(reader.result() == result, "result() of a stream reader gives another answer the second time")
    return result


def _require_no_content(read: Request | Response, where: str) -> None:
    _require(not read.messages, f"{where}: messages are read with content=False")


def _sent(given: object, odd: Mapping[str, Any], timeout_s: float) -> DestinationReport:
    """Send spans through a spool in memory, one of them with ``odd`` attributes; return the report."""
    entry: dict[str, Any] = dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else {"type": given}
    provider = TracerProvider(shutdown_on_exit=False)
    try:
        runtime.configure(
            os.devnull, tracer_provider=provider, spool="memory", destinations={_NAME: {"spans": "all", **entry}}
        )
        tracer = provider.get_tracer(semconv.SCOPE_NAME)
        attributes = {semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: "m-1"}
        for number in range(_COUNT):
            tracer.start_span("chat m-1", attributes={**attributes, **(odd if number == 1 else {})}).end()
        return runtime.flush(timeout_s).destinations[_NAME]
    finally:
        runtime.shutdown(0)
        reset_warnings()


@contextmanager
def _logged(texts: list[str]) -> Generator[None]:
    """Collect the log messages of spancast."""

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    handler = Collecting()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
