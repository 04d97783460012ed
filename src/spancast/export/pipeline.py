"""The export pipeline: filters ended spans for every destination, appends them to the spool and runs the workers.

A failing destination affects neither other destinations nor the caller's thread. It delays the end of the process by
at most ``shutdown_timeout_s``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from spancast.destinations import registry
from spancast.destinations.config import DestinationConfig
from spancast.diagnostics import Count, counters, guarded, logger, never_raise
from spancast.encoding.redaction import NO_REDACTION, Redaction
from spancast.export import process_exit
from spancast.export.delivery_worker import DeliveryWorker, Route
from spancast.export.filtering import NO_HISTORY, REASON_CATEGORY, DestinationFilter, TraceDecisions, group_filters
from spancast.export.flush_report import DestinationReport, FlushReport
from spancast.export.group_content import GroupContent
from spancast.export.payload_cache import PayloadCache
from spancast.export.record_builder import ContextCache, record_of
from spancast.export.span_queue import QueuedSpan, SpanQueue
from spancast.export.spool.protocol import QueueStats, Spool, route_name
from spancast.model.span_record import SpanRecord
from spancast.model.unparsed import Parsed, Unparsed, as_ended

_DEFAULT_TIMEOUT_S: Final = 10.0
_CHILD_WAIT_S: Final = 0.5
"""How long a forked child waits for deliveries at its end: its parent waits for it, and others share its spool."""


def routes_of(destinations: Mapping[str, DestinationConfig]) -> list[Route]:
    """Return a route for each enabled destination; the keys are the names in the configuration.

    Raises:
        ConfigError: A package that a destination needs is not installed.
    """
    return [
        Route(
            name,
            DestinationFilter(name, config),
            registry.create(config, name),
            timeout_s=getattr(config, "timeout", _DEFAULT_TIMEOUT_S),
            kind=config.type,
            fingerprint=config.fingerprint(),
        )
        for name, config in destinations.items()
        if config.enabled
    ]


def _not_stored(_: Exception) -> None:
    return None


def _parse_call(unparsed: Unparsed, span: ReadableSpan) -> Parsed | None:
    return unparsed.parse(span)


_parse: Final = guarded(_parse_call, _not_stored)


class ExportPipeline:
    """The path of ended spans to the destinations of ``routes``: span queue, filters, spool, delivery workers.

    ``is_durable``: records in ``spool`` outlive the process, so that its end does not wait for a destination that is
    down. ``processor`` is the span processor to add to a tracer provider.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        spool: Spool,
        *,
        redaction: Redaction = NO_REDACTION,
        is_durable: bool = True,
        shutdown_timeout_s: float = 5.0,
    ) -> None:
        self.spool = spool
        self.shutdown_timeout_s = shutdown_timeout_s
        self._is_durable = is_durable
        self._is_started = self._is_closed = self._is_forked = False
        self._put = guarded(spool.put, _not_stored)
        self._contexts = ContextCache()
        self._groups = GroupContent()
        self._seen = TraceDecisions()
        self._redaction = redaction
        # A filter that raises lets the span pass, so that a defect does not lose spans.
        self._filters = [
            (names, never_raise(rules.evaluate)) for names, rules in group_filters([route.rules for route in routes])
        ]
        self._needs_history = any(route.rules.needs_history for route in routes)
        payloads = PayloadCache()
        self.workers = [DeliveryWorker(route, spool, payloads) for route in routes]
        self._reported = counters.read()
        self.span_queue = SpanQueue(self._process)
        self.processor: Final = _Processor(self)
        self._keys = {route.name: route.key for route in routes}
        spool.register(list(self._keys.values()))
        self._warn_of_other_routes()
        process_exit.register(self)
        process_exit.handle_sigterm()
        if any(spool.has_queued(route.key) for route in routes):
            # An earlier process left records; otherwise the threads start with the first span.
            self._start()

    def _warn_of_other_routes(self) -> None:
        # Routes of another program, or of this one before its address or account was changed.
        for key in self.spool.routes():
            is_other = route_name(key) in self._keys and key not in self._keys.values()
            if is_other and self.spool.has_queued(key):
                state = self.spool.state(key)
                if state.attempts:
                    logger.warning(
                        "spancast: %d spans are queued for another destination named %s (other address or account);"
                        " `spancast spool` lists it as %s",
                        state.queued,
                        route_name(key),
                        key,
                    )

    def _start(self) -> None:
        for worker in self.workers:
            worker.start()
            worker.wake()
        self._is_started = True

    def _process(self, ended: Sequence[QueuedSpan]) -> None:
        counters.add("received", len(ended))
        records = [record for one in ended if (record := self._record(one)) is not None]
        skipped = self._evaluate(records)
        for record in records:
            # Only the filters need them, and they are not redacted.
            record.facts = {}
        lost = len(ended) - len(records) + self._store(records, skipped)
        if lost:
            counters.add("dropped", lost, reason="internal_error")
        self._wake(records, skipped)

    def _store(self, records: Sequence[SpanRecord], skipped: Mapping[str, Mapping[int, str]]) -> int:
        """Append ``records`` to the spool; return how many could not be stored."""
        by_key = {self._keys[name]: reasons for name, reasons in skipped.items()}
        if self._put(records, by_key) is not None:
            return 0
        # One by one, so that a record that cannot be stored does not lose the others.
        lost = 0
        for index, record in enumerate(records):
            own = {name: {0: reasons[index]} for name, reasons in by_key.items() if index in reasons}
            if self._put([record], own) is None:
                lost += 1
        return lost

    @never_raise
    def _wake(self, records: Sequence[SpanRecord], skipped: Mapping[str, Mapping[int, str]]) -> None:
        if not self._is_started:
            self._start()
        for worker in self.workers:
            if len(skipped.get(worker.route.name, ())) < len(records):
                # start() does nothing unless the thread could not be started before.
                worker.start()
                worker.wake()

    @never_raise
    def _record(self, ended: QueuedSpan) -> SpanRecord:
        given, ancestor, unparsed = ended
        # If a call can't be parsed, its span is exported with the attributes it was started with.
        parsed = None if unparsed is None else _parse(unparsed, given)
        span, attributes, status = as_ended(given, unparsed) if parsed is None else parsed
        return record_of(
            span,
            attributes,
            status,
            self._contexts,
            ancestor,
            groups=self._groups,
            redaction=self._redaction,
            with_facts=self._needs_history,
        )

    def _evaluate(self, records: Sequence[SpanRecord]) -> dict[str, dict[int, str]]:
        skipped: dict[str, dict[int, str]] = {}
        for index, record in enumerate(records) if self._filters else ():
            seen = self._seen.of(record) if self._needs_history else NO_HISTORY
            for names, evaluate in self._filters:
                reason = evaluate(record, seen)
                if reason is not None:
                    for name in names:
                        skipped.setdefault(name, {})[index] = reason
        for name, reasons in skipped.items():
            for reason, count in Counter(reasons.values()).items():
                counters.add(REASON_CATEGORY.get(reason, "filtered"), count, destination=name)
        return skipped

    def flush(self, timeout_s: float) -> FlushReport:
        """Deliver all spans that ended before this call, within ``timeout_s`` seconds; return the result."""
        return self._flush(timeout_s, patient=True)

    def _flush(self, timeout_s: float, *, patient: bool, successor: ExportPipeline | None = None) -> FlushReport:
        deadline_s = time.monotonic() + timeout_s
        self.span_queue.flush(timeout_s)
        if self._is_forked and not patient:
            deadline_s = min(deadline_s, time.monotonic() + _CHILD_WAIT_S)
        others = successor.keys_in(self.spool) if successor is not None else ()
        requested = {worker: worker.request_flush() for worker in self.workers if worker.route.key not in others}
        if self._is_started and not self._is_closed:
            for worker in [worker for worker in requested if not worker.start()]:
                worker.deliver_here(deadline_s, patient=patient)
            states = {
                worker.route.name: worker.wait_until_idle(number, deadline_s, patient=patient)
                for worker, number in requested.items()
            }
        else:
            states = {name: self.spool.state(key) for name, key in self._keys.items()}
        return self._report(states)

    def deliver_queued(self, timeout_s: float) -> None:
        """Try to deliver what is in the spool, for ``timeout_s`` at most; not to a destination that has just failed."""
        deadline_s = time.monotonic() + timeout_s
        if not self._is_started:
            self._start()
        tried = [(worker, worker.request_flush()) for worker in self.workers if not worker.is_failing]
        for worker, number in tried:
            worker.wait_for_pass(number, deadline_s)

    def count_others(self) -> None:
        """Count what other processes did with spans of this one, before the counters are read."""
        for key in self._keys.values():
            self.spool.count_others(key)

    def _report(self, states: Mapping[str, QueueStats]) -> FlushReport:
        self.count_others()
        before, self._reported = self._reported, counters.read()
        since = self._reported - before
        rejected = {name: since[Count("dead_lettered", name)] + since[Count("rejected", name)] for name in states}
        dropped: Counter[str] = Counter()
        for key, count in since.items():
            if key.name == "dropped":
                dropped[key.destination] += count
        reasons = {worker.route.name: worker.last_rejection for worker in self.workers}
        return FlushReport(
            {
                name: DestinationReport(
                    delivered=since[Count("delivered", name)],
                    queued=state.queued,
                    dead_lettered=rejected[name],
                    dropped=dropped[name],
                    last_error=state.last_error or (reasons[name] if rejected[name] else ""),
                )
                for name, state in states.items()
            },
            dropped=self.span_queue.queued + dropped[""],
        )

    def shutdown(self, timeout_s: float | None = None, successor: ExportPipeline | None = None) -> FlushReport:
        """Stop accepting spans and deliver for at most ``timeout_s`` seconds; a spool on disk keeps the rest.

        Spans that are not spooled yet go to ``successor``, and those of a spool that it shares are left to it.
        """
        if self._is_closed:
            return FlushReport()
        limit_s = self.shutdown_timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + limit_s
        self.span_queue.stop(None if successor is None else successor.span_queue)
        if successor is not None:
            self.span_queue.close(limit_s)
        report = self._flush(limit_s, patient=not self._is_durable, successor=successor)
        if self._is_forked and self._is_durable:
            deadline_s = time.monotonic()
        self._is_closed = True
        self.span_queue.close(deadline_s - time.monotonic())
        process_exit.unregister(self)
        for worker in self.workers:
            worker.stop()
        # A worker in the middle of a delivery gets the rest of the time: better to send a span twice than to block.
        ended = [worker for worker in self.workers if worker.join(deadline_s - time.monotonic())]
        for worker in ended:
            never_raise(worker.route.destination.close)()
        self.spool.close()
        return report

    @property
    def has_spans(self) -> bool:
        """Return whether spans wait to be spooled."""
        return self.span_queue.queued > 0

    def keys_in(self, spool: Spool) -> Collection[str]:
        """Return the keys of the destinations that this pipeline delivers from the file of ``spool``."""
        path = self.spool.location()[0]
        return self._keys.values() if self._is_durable and path == spool.location()[0] else ()

    def queues(self) -> dict[str, tuple[int, int]]:
        """Return the queued spans and bytes of each destination."""
        states = {name: self.spool.state(key) for name, key in self._keys.items()}
        return {name: (state.queued, state.queued_bytes) for name, state in states.items()}

    def after_fork_in_child(self) -> None:
        """Start empty with the same destinations: the parent delivers its own spans."""
        self.span_queue.after_fork_in_child()
        payloads = PayloadCache()
        for worker in self.workers:
            worker.after_fork_in_child(payloads)
        self._groups = GroupContent()
        self._reported = counters.read()
        self._is_started = False
        self._is_forked = True


class _Processor(SpanProcessor):
    """The span processor of a pipeline."""

    def __init__(self, pipeline: ExportPipeline) -> None:
        self._pipeline = pipeline
        # Bound methods of the queue, without a call in between: they run for every span on the caller's thread.
        self.on_start = pipeline.span_queue.on_start
        self.on_end = pipeline.span_queue.on_end
        self.put = pipeline.span_queue.put

    def shutdown(self) -> None:
        """Shut the pipeline down."""
        self._pipeline.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush; true only if nothing is queued and nothing was lost."""
        return bool(self._pipeline.flush(timeout_millis / 1000))
