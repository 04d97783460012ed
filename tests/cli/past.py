"""Preparation of command tests: a pipeline that has ended, and its configuration file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.trace import Tracer
from tests.export.pipelines import call, pipeline_to, tracing

from spancast.cli import main

TIMEOUT_S = 30.0
BLOCKED_S = 0.2
"""Flush timeout for a destination that fails."""


def configure(destinations: dict[str, Any], **settings: Any) -> None:
    """Write ``spancast.yaml`` here; the spool is in ``queue``."""
    content = {"destinations": destinations, "spool": {"path": "queue"}, **settings}
    Path("spancast.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def pipeline(
    destinations: dict[str, Any], act: Callable[[Tracer], Any], flush_s: float = TIMEOUT_S, **settings: Any
) -> Any:
    """Write the configuration, and deliver the spans that ``act`` creates; return the result of ``act``."""
    configure(destinations, **settings)
    sender = pipeline_to(destinations, Path("queue"))
    with tracing(sender) as tracer:
        result = act(tracer)
    sender.flush(flush_s)
    sender.shutdown(TIMEOUT_S)
    return result


def file(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "file", "path": f"{name}.jsonl", "spans": "all", **more}


AWAY = file("gone/away")
"""A destination that fails while there is a file `gone`."""


def three(tracer: Tracer) -> list[str]:
    """Make three calls; return their trace ids."""
    return [call(tracer, number)[0] for number in range(3)]


def delivered(name: str) -> int:
    """Return the number of spans in the file of destination ``name``."""
    path = Path(f"{name}.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(
        len(scope["spans"])
        for line in lines
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
    )


class Command:
    """Runner of commands, called as ``run("spool", "--json")``; ``err`` is the stderr of the last command."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """Run a command and return its stdout; check its exit ``status``, and that stderr is empty if it succeeded."""
        self._capsys.readouterr()
        exit_status = main(list(arguments))
        printed = self._capsys.readouterr()
        assert exit_status == status, printed
        assert "Traceback" not in printed.err
        assert status or not printed.err
        lines = [] if "--json" in arguments else printed.out.splitlines()
        room, place = int(os.environ["COLUMNS"]), str(Path.cwd())
        texts = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
        assert all(len(text) <= room or place in text for text in texts), printed.out
        self.err = printed.err
        return printed.out

    def data(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status))
