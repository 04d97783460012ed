"""Where spans went, and the buttons: on a real spool with a destination that refuses, one that is away and one that works."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.cli.past import AWAY, BLOCKED_S, configure, delivered, file, pipeline
from tests.cli.test_explain import conversation
from tests.destinations.otlp_receiver import OtlpReceiver, ok, status
from tests.export.pipelines import otlp
from tests.ui.served import Reader, served

from spancast.cli.ui import SpoolDeliveries
from spancast.destinations.span_store import Store
from spancast.export import delivery_worker


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(delivery_worker, "FIRST_BACKOFF_S", 0.05)


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def test_destinations_and_their_buttons(browser: Browser, receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(400, body=b"no such project <script>"))
    blocked = Path("gone")
    blocked.write_text("in the way")
    destinations = {
        "here": file("here", trace_url="https://traces.example/p/7/{trace_id}?from=spancast"),
        "rare": file("rare", sampling_rate=0.0001),
        "vendor": otlp(receiver.url),
        "away": AWAY,
        "store": {"type": "store", "path": "spans.db", "spans": "all"},
    }
    trace_id = pipeline(destinations, conversation, BLOCKED_S)
    configure(destinations)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    with served(Path("spans.db"), SpoolDeliveries(argparse.Namespace())) as address:
        reader = Reader(context, address)
        reader.open(f"/trace/{trace_id}?tab=delivery")
        rows = [" ".join(row.split()) for row in reader.page.locator(".states tr").all_inner_texts()]
        shown = {row.split()[0]: row for row in rows}
        assert shown["here"].startswith("here delivered ")
        link = reader.page.locator("tr", has_text="here").get_by_role("link", name="open there")
        assert link.get_attribute("href") == f"https://traces.example/p/7/{trace_id}?from=spancast"
        assert shown["rare"].startswith("rare sampled out")
        assert "no such project <script>" in shown["vendor"]
        assert shown["away"].startswith("away queued: ")
        # The answer of a repaired destination.
        receiver.answer_with(ok())
        reader.page.locator("tr", has_text="vendor").get_by_role("button", name="Send again").click()
        assert "vendor: 3 spans sent again: 3 delivered" in reader.text("[role=status]")
        blocked.unlink()
        reader.page.locator(".card", has_text="away").get_by_role("button", name="Retry now").click()
        assert "away: 3 delivered" in reader.text("[role=status]")
        assert delivered("gone/away") == 3
        reader.open(f"/trace/{trace_id}?tab=delivery")
        reader.page.locator("tr", has_text="here").get_by_role("button", name="Send again").click()
        assert "here: 3 spans sent again: 3 delivered" in reader.text("[role=status]")
        assert delivered("here") == 6
        assert reader.wrong == []
    context.close()
    assert len(Store(Path("spans.db")).trace(trace_id)) == 3


def test_purge_asks_and_drops(browser: Browser) -> None:
    Path("gone").write_text("in the way")
    trace_id = pipeline({"away": AWAY}, conversation, BLOCKED_S)
    context = browser.new_context()
    with served(Path("spans.db"), SpoolDeliveries(argparse.Namespace())) as address:
        reader = Reader(context, address)
        reader.open("/destinations").get_by_role("button", name="Drop what is queued").click()
        assert reader.text("[role=status]") == "away: 3 spans purged"
        assert reader.confirmed[0].startswith("Drop the spans that wait for away?")
        assert trace_id[:8] in reader.text(".states")
        expect(reader.page.get_by_role("button", name="Retry now")).to_have_count(0)
        # A notice belongs to one action, not to an address that anyone can write.
        assert "Renew your key" not in reader.open("/destinations?notice=Renew+your+key").locator("main").inner_text()
        assert reader.wrong == []
    context.close()


def test_destinations_without_spool_says_why(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context()
    with served(tmp_path / "spans.db", SpoolDeliveries(argparse.Namespace())) as address:
        reader = Reader(context, address)
        reader.open("/destinations")
        assert "no spool at " in reader.text()
    context.close()


def test_trace_in_the_page_of_phoenix_and_of_jaeger_has_a_known_address() -> None:
    destinations = {
        "phoenix": {"type": "phoenix", "base_url": "http://127.0.0.1:9/s/me/v1/traces"},
        "jaeger": {"type": "jaeger", "endpoint": "http://127.0.0.1:9"},
        "collector": {"type": "otel-collector", "endpoint": "http://127.0.0.1:9"},
    }
    pipeline(destinations, conversation, BLOCKED_S)
    overview = SpoolDeliveries(argparse.Namespace()).overview()
    assert overview.unknown == ""
    pages = {one.name: one.page for one in overview.destinations}
    assert pages == {"phoenix": "http://127.0.0.1:9", "jaeger": "http://127.0.0.1:16686", "collector": ""}
