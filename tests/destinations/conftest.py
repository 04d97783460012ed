"""``explained``: what ``spancast explain`` says of a span that was sent to one destination."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.export.pipelines import PATIENCE_S, call, pipeline_to, report_when, tracing

from spancast.cli import main
from spancast.export import delivery_worker

Explained = Callable[..., tuple[str, str]]
"""Of the entry of a destination, and whether it is away: the state of the span, and the last reason."""


@pytest.fixture
def explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Explained:
    """Return a function that sends one span until it is settled; to a destination that is away, until it was tried."""
    monkeypatch.setattr(delivery_worker, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(delivery_worker, "BATCH_DELAY_S", 0.01)
    number = iter(range(100))

    def explain(entry: dict[str, Any], *, is_away: bool = False) -> tuple[str, str]:
        folder = tmp_path / f"explained{next(number)}"
        folder.mkdir()
        config = folder / "spancast.yaml"
        config.write_text(yaml.safe_dump({"destinations": {"one": entry}, "spool": {"path": str(folder / "queue")}}))
        pipeline = pipeline_to({"one": entry}, folder / "queue")
        with tracing(pipeline) as tracer:
            trace_id, _ = call(tracer)
        report_when(
            pipeline.flush,
            lambda report: report.destinations["one"].last_error if is_away else not report.destinations["one"].queued,
        )
        pipeline.shutdown(PATIENCE_S)
        capsys.readouterr()
        assert main(["explain", trace_id, "--config", str(config), "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        [span] = data["spans"]
        state = span["destinations"]["one"]
        return state["state"], state["reason"] or str(data["destinations"]["one"])

    return explain
