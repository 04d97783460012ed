"""Something that happened before the command: a pipeline that ended, its configuration beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.trace import Tracer
from tests.export.pipelines import call, pipeline_to, tracing

from spancast.cli import main

PATIENCE_S = 30.0
BLOCKED_S = 0.2
"""Long enough for a destination that cannot take anything."""


def configure(destinations: dict[str, Any], **settings: Any) -> None:
    """Write ``spancast.yaml`` here; the spool is in ``queue``."""
    given = {"destinations": destinations, "spool": {"path": "queue"}, **settings}
    Path("spancast.yaml").write_text(yaml.safe_dump(given, sort_keys=False))


def pipeline(
    destinations: dict[str, Any], act: Callable[[Tracer], Any], flush_s: float = PATIENCE_S, **settings: Any
) -> Any:
    """Let ``act`` make spans for ``destinations``, configured as well; return what it returns."""
    configure(destinations, **settings)
    sender = pipeline_to(destinations, Path("queue"))
    with tracing(sender) as tracer:
        made = act(tracer)
    sender.flush(flush_s)
    sender.shutdown(PATIENCE_S)
    return made


def file(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "file", "path": f"{name}.jsonl", "spans": "all", **more}


AWAY = file("gone/away")
"""A destination that takes nothing while there is a file `gone`."""


def three(tracer: Tracer) -> list[str]:
    """Make three calls; return their trace ids."""
    return [call(tracer, number)[0] for number in range(3)]


def delivered(name: str) -> int:
    """Return how many spans the file destination ``name`` has."""
    path = Path(f"{name}.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(
        len(scope["spans"])
        for line in lines
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
    )


class Command:
    """``run("spool", "--json")``, with what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """Return stdout of a command that ends with ``status``, having written to stderr only if it failed."""
        self._capsys.readouterr()
        ended = main(list(arguments))
        printed = self._capsys.readouterr()
        assert ended == status, printed
        assert "Traceback" not in printed.err
        assert status or not printed.err
        lines = [] if "--json" in arguments else printed.out.splitlines()
        assert all(len(line) <= 80 or str(Path.cwd()) in line for line in lines), printed.out
        self.err = printed.err
        return printed.out

    def data(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status))
