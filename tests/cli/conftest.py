"""Fixtures: every test runs commands in its own directory, on real spool and store files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.past import Command
from tests.destinations.otlp_receiver import OtlpReceiver

from spancast.export import delivery_worker


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "80")
    for name in os.environ:
        if name.startswith("SPANCAST_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(delivery_worker, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(delivery_worker, "BATCH_DELAY_S", 0.01)
    return tmp_path


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def blocked() -> Path:
    """A file where the destination `AWAY` needs a directory."""
    path = Path("gone")
    path.write_text("in the way")
    return path
