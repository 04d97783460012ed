"""The page, served for a test on a free port, and a real Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from spancast.ui.app import create_app
from spancast.ui.deliveries import Overview

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
TIMEOUT_MS = 60_000


class NoDeliveries:
    """A store without a spool."""

    def overview(self) -> Overview:
        return Overview(unknown="no spool")

    def of_trace(self, trace_id: str) -> tuple[list[Any], str]:
        return [], "no spool"

    def act(self, *args: Any) -> str:
        raise AssertionError


@contextmanager
def served(store: Path, deliveries: Any = None, **options: Any) -> Iterator[str]:
    """Serve the page of ``store``; yield its address without the last slash."""
    app = create_app(store, deliveries or NoDeliveries(), **options)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium; without it, skip the test, or fail if servers are required."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        message = "NO BROWSER: apt-get install chromium"
        if os.environ.get("SPANCAST_REQUIRE_SERVERS"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS, timeout=TIMEOUT_MS)
        yield browser
        browser.close()


class Reader:
    """A page of the browser that records what must not happen: console errors, and requests to another server."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.address = address
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self._dialog(dialog))
        self.page.on("request", lambda request: self._requested(request.url))
        self.confirmed: list[str] = []

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page

    def follow(self, name: str) -> None:
        """Click the link and wait for its page, with its style sheet: text is laid out with it."""
        with self.page.expect_navigation():
            self.page.get_by_role("link", name=name).click()

    def text(self, selector: str = "main") -> str:
        return " ".join(self.page.locator(selector).first.inner_text().split())

    def is_too_wide(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def _dialog(self, dialog: Any) -> None:
        if dialog.type == "confirm":
            self.confirmed.append(dialog.message)
            dialog.accept()
        else:
            self.wrong.append(f"{dialog.type}: {dialog.message}")
            dialog.dismiss()

    def _requested(self, url: str) -> None:
        if not url.startswith(self.address):
            self.wrong.append(url)
