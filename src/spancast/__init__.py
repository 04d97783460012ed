"""Record LLM calls as OpenTelemetry traces and deliver them to any number of destinations.

    import openai, spancast

    spancast.configure(service_name="support-bot")
    client = spancast.instrument(openai.OpenAI())
    client.chat.completions.create(model=..., messages=[...], session_id="chat-42", trace={"trace_name": "Support"})

The public names are those in ``__all__``, in ``spancast.testing`` and in the ``protocol`` modules. Their modules are
imported at first use, so that commands do not load the recording.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spancast.errors import ConfigError, SpancastError, TraceKeyError
    from spancast.export.flush_report import FlushReport
    from spancast.model.version import VERSION as _VERSION
    from spancast.runtime import configure, flush, instrument, shutdown, stats, trace, uninstrument
    from spancast.serverless import flush_on_return

    __version__ = _VERSION

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

_RUNTIME = ("configure", "flush", "instrument", "shutdown", "stats", "trace", "uninstrument")
_SOURCES = {
    "FlushReport": ("spancast.export.flush_report", "FlushReport"),
    "flush_on_return": ("spancast.serverless", "flush_on_return"),
    "__version__": ("spancast.model.version", "VERSION"),
    **{name: ("spancast.errors", name) for name in ("ConfigError", "SpancastError", "TraceKeyError")},
    **{name: ("spancast.runtime", name) for name in _RUNTIME},
}


def __getattr__(name: str) -> object:
    if name in _SOURCES:
        module, attribute = _SOURCES[name]
        value = globals()[name] = getattr(_import_module(module), attribute)
        return value
    if not name.startswith("__"):
        module = f"spancast.{name}"
        try:
            return _import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    raise AttributeError(f"module 'spancast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SOURCES} - {"TYPE_CHECKING"})
