"""Group spans, and the scopes that end them: a ``with`` block, or the span that was active when they were opened."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from opentelemetry.trace import Span

from spancast.diagnostics import attempt

Level: TypeAlias = Literal["trace", "span"]
GroupKey: TypeAlias = tuple[int, int, Level, str]
"""(trace id, parent span id or 0, level, name)."""


@dataclass(slots=True, eq=False)
class Group:
    """An open group span. ``ref_count`` counts its running children, and the ``with`` block that opened it.

    A group without a key cannot be joined by a later call: it ends with the call or the block that opened it.
    """

    span: Span
    key: GroupKey | None
    scope: GroupScope | None
    ref_count: int = 0
    last_end_ns: int = 0
    idle_since_s: float = field(default_factory=time.monotonic)

    @property
    def is_idle(self) -> bool:
        """Return whether nothing keeps this group open: no running child, and no open scope."""
        return self.ref_count <= 0 and (self.scope is None or not self.scope.is_open)


@dataclass(slots=True, eq=False)
class GroupScope:
    """A ``with`` block, or a ``span`` of the application: the groups opened inside it end with it."""

    span: Span | None = None
    has_ended: bool = False
    groups: dict[Group, None] = field(default_factory=dict[Group, None])
    """The open groups, in the order of their opening."""

    @property
    def is_open(self) -> bool:
        """Return whether the block or the span has not ended."""
        return not self.has_ended and (self.span is None or bool(attempt(self.span.is_recording)))
