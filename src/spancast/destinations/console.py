"""The console destination: prints each batch as trees with names, durations, tokens and cost."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Literal, TextIO

from pydantic import Field

from spancast.destinations.config import OwnFormatConfig
from spancast.destinations.place import Place, where_stream_goes
from spancast.destinations.protocol import Delivered, Encoder, Outcome, Payload, Retry
from spancast.encoding import amounts
from spancast.encoding.span_data import SpanData
from spancast.encoding.tree_view import render_tree, totals


class ConsoleConfig(OwnFormatConfig, frozen=True):
    """Trees printed in the terminal."""

    type: Literal["console"]
    stream: Literal["stderr", "stdout"] = Field("stderr", description="Output stream.")

    def place(self) -> Place:
        """Return the terminal or file of the stream, so that prompts are not printed in another program's log."""
        return Place(address={"stream": self.stream, "goes_to": where_stream_goes(self.stream)})


class ConsoleDestination:
    """Prints each batch as trees, one per trace."""

    def __init__(self, config: ConsoleConfig, encoder: Encoder, stream: TextIO | None = None) -> None:
        self.encoder = encoder
        self._name = config.stream
        self._stream = stream

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:  # noqa: ARG002 - a terminal has no time limit
        """Print ``payload``; a closed terminal gives ``Retry``."""
        # Looked up each time, because programs and test runners replace the streams.
        stream = self._stream or (sys.stdout if self._name == "stdout" else sys.stderr)
        try:
            # A terminal without Unicode shows `?` for the lines of a tree.
            encoding = stream.encoding or "utf-8"
            stream.write(_text(payload.spans).encode(encoding, "replace").decode(encoding))
            stream.flush()
        except (OSError, ValueError) as error:
            return Retry(f"{self._name}: {type(error).__name__}")
        return Delivered()

    def test_connection(self, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Return success: the stream needs no connection."""
        return Delivered()

    def close(self) -> None:
        """Do nothing."""


def _text(spans: Iterable[SpanData]) -> str:
    traces: dict[str, list[SpanData]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    return "".join(f"{_heading(trace_id, members)}\n{render_tree(members)}\n" for trace_id, members in traces.items())


def _heading(trace_id: str, spans: Iterable[SpanData]) -> str:
    sums = totals(spans)
    cost = "" if sums.cost is None else f", {amounts.cost(sums.cost, is_estimated=sums.is_estimated)}"
    calls = "1 call" if sums.calls == 1 else f"{sums.calls} calls"
    return f"trace {trace_id}: {calls}, {amounts.tokens(sums.input_tokens, sums.output_tokens)} tokens{cost}"
