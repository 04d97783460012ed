"""Record LLM calls as OpenTelemetry traces and deliver them to any number of destinations.

    import openai, spancast

    spancast.configure(service_name="support-bot")
    client = spancast.instrument(openai.OpenAI())
    client.chat.completions.create(model=..., messages=[...], session_id="chat-42", trace={"trace_name": "Support"})

The public names are those in ``__all__``, in ``spancast.testing`` and in the ``protocol`` modules.
"""

from spancast.errors import ConfigError, SpancastError, TraceKeyError
from spancast.export.flush_report import FlushReport
from spancast.model.version import VERSION as _VERSION
from spancast.runtime import configure, flush, instrument, shutdown, stats, trace, uninstrument
from spancast.serverless import flush_on_return

__all__ = [
    "ConfigError",
    "FlushReport",
    "SpancastError",
    "TraceKeyError",
    "configure",
    "flush",
    "flush_on_return",
    "instrument",
    "shutdown",
    "stats",
    "trace",
    "uninstrument",
]

__version__ = _VERSION
