"""Spancast: any completion call as an OpenTelemetry trace.

    import openai, spancast

    spancast.configure(service_name="support-bot")
    client = spancast.instrument(openai.OpenAI())
    client.chat.completions.create(model=..., messages=[...], session_id="chat-42", trace={"trace_name": "Support"})

Public are the names in ``__all__``, ``spancast.testing`` and the ``protocol`` modules.
"""

from spancast.broadcast.flush_report import FlushReport
from spancast.errors import ConfigError, SpancastError, TraceKeyError
from spancast.runtime import configure, flush, instrument, shutdown, stats, trace, uninstrument
from spancast.serverless import flushed

__all__ = [
    "ConfigError",
    "FlushReport",
    "SpancastError",
    "TraceKeyError",
    "configure",
    "flush",
    "flushed",
    "instrument",
    "shutdown",
    "stats",
    "trace",
    "uninstrument",
]
