"""Starts the recording of each call by the settings in force: ``Recorder.begin`` -> ``Recording`` -> span.

Must never: raise into a client (``shielded``), or tell a call that somebody else tells already.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from spancast.dialects.protocol import Dialect
from spancast.errors import SpancastError, TraceKeyError, shielded, tally, warn_once
from spancast.model import trace_keys
from spancast.model.providers import UNKNOWN_SERVER, Server
from spancast.model.trace_keys import NO_KEYS, TraceKeys
from spancast.model.version import VERSION
from spancast.recording.forwarding import Forward
from spancast.recording.metrics import ClientMetrics
from spancast.recording.peers import asks_for_silence, inference_span
from spancast.recording.recording import RUNNING, Recording, end_streams
from spancast.recording.scope import AMBIENT, NOWHERE, baggage_keys, current_context
from spancast.recording.span_start import SpanStarter
from spancast.recording.span_tree import IDLE_S, Place, SpanTree

_KEY_FIELDS: Final = frozenset(("trace", "session_id", "user", "metadata"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSettings:
    """How calls are recorded.

    ``tracer_provider`` and ``meter_provider`` None mean the global ones at the time of the
    call. ``cancelled_is_error`` gives a cancelled call the status ERROR.
    """

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    capture_content: bool = True
    strict: bool = False
    forward: Forward = "auto"
    stream_usage: bool = False
    cancelled_is_error: bool = False
    group_idle_s: float = IDLE_S
    defaults: TraceKeys = field(default_factory=lambda: NO_KEYS)


class Recorder:
    """Starts recordings by the settings in force; one per process."""

    def __init__(self) -> None:
        self.settings: RecordingSettings = RecordingSettings()
        self.tree = SpanTree(self.starter)
        self._starter: SpanStarter | None = None
        self._metrics: ClientMetrics | None = None

    def configure(self, settings: RecordingSettings) -> None:
        """Put ``settings`` in force for calls that begin from now on; ends open groups."""
        self.tree.end_all()
        if settings.group_idle_s != self.settings.group_idle_s:
            self.tree = SpanTree(self.starter, idle_s=settings.group_idle_s)
        self.settings = settings
        self._starter = self._metrics = None

    @shielded
    def begin(  # noqa: PLR0913 - one argument per thing a client knows of a call
        self,
        dialect: Dialect,
        body: Mapping[str, Any],
        server: Server = UNKNOWN_SERVER,
        session_header: object = None,
        *,
        is_outermost: bool = False,
        reads_now: bool = True,
    ) -> Recording | None:
        """Start recording a call with request ``body``; None where nothing is to be recorded.

        ``reads_now=False`` of a client that gives ``Recording.sent`` what it sent, in time.

        Raises:
            TraceKeyError: A trace key is wrong and ``strict`` is set.
        """
        current = current_context()
        keys = NO_KEYS
        if (
            not _KEY_FIELDS.isdisjoint(body)
            or session_header is not None
            or current
            or AMBIENT.get() is not NOWHERE
            or self.settings.defaults is not NO_KEYS
        ):
            keys = self.read_keys(body, session_header, current)
            if keys.problems:
                self.tell(keys.problems, TraceKeyError)
        recording = Recording(self, dialect, body, keys, server)
        if not keys.enabled:
            return recording
        outer = RUNNING.get()
        if outer is not None:
            recording.start_within(outer)
        elif current and asks_for_silence(current):
            tally.add("calls.suppressed")
        elif current and (active := inference_span(current)) is not None:
            # Another instrumentation already has a span for this call: ours would be the second.
            tally.add("calls.annotated")
            active.set_attributes(keys.attributes())
        else:
            recording.start(current, quiet_peers=is_outermost, reads_now=reads_now)
        return recording

    def read_keys(self, body: Mapping[str, Any], session_header: object, current: Context) -> TraceKeys:
        """Return the keys of a call from all sources, by their precedence (design §3)."""
        keys = NO_KEYS
        if not _KEY_FIELDS.isdisjoint(body):
            keys = trace_keys.read(**{name: body[name] for name in _KEY_FIELDS if body.get(name) is not None})
        if session_header is not None:
            keys = keys.over(trace_keys.read(session_id=session_header))
        keys = keys.over(AMBIENT.get().keys)
        if current:
            keys = keys.over(baggage_keys(current))
        return keys.over(self.settings.defaults)

    def open_groups(self, given: TraceKeys, merged: TraceKeys) -> Place | None:
        """Open the spans a ``with`` block names: ``given`` are its own keys, ``merged`` include those around it."""
        return self._open_groups(given, merged)

    def starter(self) -> SpanStarter:
        """Return what starts spans of the provider in force."""
        starter = self._starter
        provider = self.settings.tracer_provider or trace_api.get_tracer_provider()
        if starter is None or starter.provider is not provider:
            starter = self._starter = SpanStarter(provider)
            # Registered after the provider's own shutdown, and so run before it.
            atexit.unregister(end_streams)
            atexit.register(end_streams)
        return starter

    def listened(self) -> ClientMetrics | None:
        """Return the instruments of the meter provider in force; None where nobody listens."""
        metrics = self._metrics
        if metrics is not None and metrics.awaits_provider:
            return None
        provider = self.settings.meter_provider or metrics_api.get_meter_provider()
        if metrics is None or metrics.provider is not provider:
            metrics = self._metrics = ClientMetrics(provider, VERSION)
        return metrics if metrics.enabled else None

    @shielded
    def _open_groups(self, given: TraceKeys, merged: TraceKeys) -> Place | None:
        if given.problems:
            self.tell(given.problems, TraceKeyError)
        current = current_context()
        if asks_for_silence(current):
            # On a thread of ours, a span of its own work would be delivered, which begins the next one.
            return None
        own = merged if given.span_name else merged.without("span_name")
        return self.tree.place(own, current)

    def tell(self, problems: Sequence[str], error: type[SpancastError]) -> None:
        """Count ``problems`` and warn once of each field; raise them as ``error`` where ``strict`` is set.

        Each is ``field: what was given, what is allowed``; texts of the caller's are never in it.
        """
        tally.add("problems", len(problems))
        if self.settings.strict:
            raise error("; ".join(problems))
        for problem in problems:
            warn_once(f"problem:{problem.partition(':')[0]}", "spancast: %s", problem)


RECORDER: Final = Recorder()
