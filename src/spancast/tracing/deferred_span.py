"""A span of ours that the SDK makes only if something reads or changes it before its end.

To start and end a span with its attributes takes the SDK longer than all that spancast does for a call. If nothing but
our processor sees the span, its name, ids and times are enough: the export thread adds the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace import Span as SDKSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import Attributes as OTelAttributes
from opentelemetry.util.types import AttributeValue

from spancast.diagnostics import after_fork_in_child, warn_once
from spancast.model.call import Attributes
from spancast.model.unparsed import Parsed
from spancast.tracing.completed_span import completed

if TYPE_CHECKING:
    from spancast.tracing.span_factory import SpanFactory
    from spancast.tracing.span_processor import SpancastProcessor

_NO_CONTEXT: Final = Context()
# Reentrant: the garbage collector may end a span on the thread that makes one.
_making = threading.RLock()


class DeferredSpan(Span):
    """A span with the ids ``context`` under ``parent``, not ended.

    ``attributes`` returns the attributes of its start, when the SDK makes it or when it is exported. ``surroundings``
    is the context that it was started in; ``factory`` makes it, and ``processor`` gets it when it ends.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one argument per part of a span
        self,
        factory: SpanFactory,
        processor: SpancastProcessor,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Callable[[], Attributes],
        surroundings: Context,
    ) -> None:
        self._factory = factory
        self._processor = processor
        self.first_name: Final = name
        self.context: Final = context
        self._parent = parent
        self.kind: Final = kind
        self.first_attributes: Final = attributes
        self.surroundings = surroundings
        self._is_ended = False
        self._made: Any = None
        """The span of the SDK, or the ended span; None before either."""
        self.start_ns: Final = time.time_ns()

    @property
    def __class__(self) -> Any:  # noqa: ANN401 - a class # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the class of the SDK's spans, for code that looks at it."""
        return SDKSpan

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """Return the scope; like ``context`` and ``kind``, without making the span."""
        return self._factory.scope

    def get_span_context(self) -> SpanContext:
        """Return the ids."""
        return self.context

    def is_recording(self) -> bool:
        """Return whether the span has not ended."""
        return not self._is_ended and (self._made is None or self._made.is_recording())

    @property
    def is_unmade(self) -> bool:
        """Return whether the span is neither made nor ended."""
        return self._made is None

    def made(self) -> Any:  # noqa: ANN401 - the SDK's span
        """Return the span that the SDK has made, now if not before; after the end, the ended span."""
        with _making:
            if self._made is None:
                self._processor.running.pop(self.context.span_id, None)
                self._made = self._factory.make(self)
                self.surroundings = _NO_CONTEXT
        return self._made

    def end(self, end_time: int | None = None) -> None:
        """End the span."""
        ended: ReadableSpan | None = None
        factory = self._factory
        with _making:
            # Only one of the threads that end it passes it on.
            if self._is_ended:
                return
            if self._made is None:
                self._is_ended = True
                # The caller may keep the span; the context holds the spans around it, and they theirs.
                self.surroundings = _NO_CONTEXT
                self._made = ended = ReadableSpan(
                    self.first_name,
                    self.context,
                    self._parent,
                    factory.resource,
                    kind=self.kind,
                    start_time=self.start_ns,
                    end_time=time.time_ns() if end_time is None else end_time,
                    instrumentation_scope=factory.scope,
                )
        if ended is None:
            self._made.end(end_time)
        else:
            self._processor.on_end(ended, self._complete)

    def _complete(self, span: ReadableSpan) -> Parsed:
        return completed(span, {**self.first_attributes()}, None, None, self._factory.limits)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set an attribute."""
        self._change("set_attribute", key, value)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes."""
        self._change("set_attributes", attributes)

    def add_event(self, name: str, attributes: OTelAttributes = None, timestamp: int | None = None) -> None:
        """Add an event."""
        self._change("add_event", name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: OTelAttributes = None) -> None:
        """Add a link."""
        self._change("add_link", context, attributes)

    def update_name(self, name: str) -> None:
        """Change the name."""
        self._change("update_name", name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status."""
        self._change("set_status", status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: OTelAttributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an event for ``exception``."""
        self._change("record_exception", exception, attributes, timestamp, escaped)

    def _change(self, method: str, *args: Any) -> None:  # noqa: ANN401 - the API's own values
        if self._is_ended:
            # The SDK says so, too.
            warn_once(f"ended span:{method}", "spancast: `%s` of a span that has ended has no effect", method)
        else:
            getattr(self.made(), method)(*args)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span, with the exception of its block as the SDK records it."""
        if error is None or self._is_ended:
            self.end()
        else:
            self.made().__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        """Return the text that the SDK's span has."""
        name = self.first_name if self._made is None else self._made.name
        return f'_Span(name="{name}", context={self.context})'

    def __reduce_ex__(self, protocol: Any) -> Any:  # noqa: ANN401 - as of any object
        """Return what copies the SDK's span, or why it can't be copied."""
        return self.made().__reduce_ex__(protocol)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the SDK's span has
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.made(), name)


def _new_lock() -> None:
    global _making  # noqa: PLW0603 - one per process
    _making = threading.RLock()


# A lock that another thread holds during a fork stays locked in the child.
after_fork_in_child(_new_lock)


def is_deferred(span: Span) -> bool:
    """Return whether nothing has made ``span`` yet: it will end without the attributes of its start."""
    return type(span) is DeferredSpan and span.is_unmade
