"""Fixtures: the demo's conversation in a store, the page of it, and one Chromium per file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.ui.served import Reader, chromium, served

from spancast.cli import demo as demo_command
from spancast.cli import main


@pytest.fixture(scope="module")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "spans.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_command, "listens", lambda _: False)
        assert main(["demo", "--store", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Of a file, not of the run: playwright's event loop would be in the way of asynchronous tests.
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def demo_page(demo_store: Path) -> Iterator[str]:
    with served(demo_store) as address:
        yield address


@pytest.fixture
def reader(browser: Browser, demo_page: str) -> Iterator[Reader]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    one = Reader(context, demo_page)
    yield one
    context.close()
    assert one.wrong == []
