"""``configure(destinations={"mine": obj})``: any object with ``deliver``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.export.pipelines import PATIENCE_S

import spancast
from spancast.config.settings import load
from spancast.destinations.object_destination import ObjectConfig
from spancast.destinations.protocol import Delivered, Outcome, Payload, Rejected
from spancast.errors import ConfigError


class Least:
    def __init__(self) -> None:
        self.names: list[str] = []

    def deliver(self, payload: Payload, timeout_s: float) -> Any:
        for resource in json.loads(payload.json)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                self.names += [span["name"] for span in scope["spans"]]


class Full(Least):
    place = "https://example.com/inbox"

    def __init__(self, outcome: Any = None) -> None:
        super().__init__()
        self.outcome = outcome
        self.closed = 0

    def deliver(self, payload: Payload, timeout_s: float) -> Any:
        super().deliver(payload, timeout_s)
        return self.outcome

    def test_connection(self, timeout_s: float) -> Outcome:
        return Rejected("no")

    def close(self) -> None:
        self.closed += 1


def call(tmp_path: Path, destinations: dict[str, Any]) -> spancast.FlushReport:
    provider = TracerProvider(shutdown_on_exit=False)
    spancast.configure(tracer_provider=provider, spool={"path": str(tmp_path)}, destinations=destinations)

    @spancast.instrument
    def complete(prompt: str, *, model: str) -> str:
        return "no" if prompt else "?"

    complete("May I?", model="m")
    with provider.get_tracer("other").start_as_current_span("work"):
        pass
    report = spancast.flush(PATIENCE_S)
    spancast.shutdown()
    return report


def test_object_receives_spans_that_pass_its_filter(tmp_path: Path) -> None:
    mine, whole = Least(), Full(Delivered())
    report = call(tmp_path, {"mine": mine, "whole": {"type": whole, "spans": "all", "privacy_mode": True}})
    assert report, str(report)
    assert mine.names == ["chat m"]
    assert sorted(whole.names) == ["chat m", "work"]
    assert (report.destinations["mine"].delivered, report.destinations["whole"].delivered) == (1, 2)
    assert whole.closed == 1


def test_object_with_batch_limit_receives_smaller_batches(tmp_path: Path) -> None:
    class OneByOne(Least):
        max_batch_spans = 1
        sizes: ClassVar[list[int]] = []

        def deliver(self, payload: Payload, timeout_s: float) -> Any:
            self.sizes.append(len(payload.spans))

    assert call(tmp_path, {"mine": {"type": OneByOne(), "spans": "all"}})
    assert OneByOne.sizes == [1, 1]


def test_object_that_rejects_counts_as_refused(tmp_path: Path) -> None:
    report = call(tmp_path, {"mine": Full(Rejected("closed today"))})
    assert not report
    assert report.destinations["mine"].dead_lettered == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Path(), "destinations.mine: has no method `deliver(payload, timeout_s)` (given: PosixPath)"),
        ({"type": Path()}, "destinations.mine: has no method `deliver(payload, timeout_s)` (given: PosixPath)"),
        (
            Least,
            "destinations.mine: must be a mapping with `type` and the fields of that type, or an object (given: type)",
        ),
        (7, "destinations.mine: must be a mapping with `type` and the fields of that type, or an object (given: int)"),
        ({"type": Least(), "span": "all"}, "destinations.mine.span: unknown field `span`; did you mean `spans`?"),
        (type("Half", (Least,), {"close": True})(), "destinations.mine: `close` must be a method (given: bool)"),
        (
            type("Text", (Least,), {"max_batch_spans": "100"})(),
            "destinations.mine: `max_batch_spans` must be a positive integer or None (given: str)",
        ),
        (
            type("None", (Least,), {"max_batch_bytes": 0})(),
            "destinations.mine: `max_batch_bytes` must be a positive integer or None (given: 0)",
        ),
    ],
)
def test_object_that_is_no_destination_raises_with_the_reason(given: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spancast.configure(destinations={"mine": given})
    assert expected in str(caught.value)


def test_place_is_the_objects_or_its_class_and_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(destination: Any) -> str:
        config = load(None, {"destinations": {"mine": destination}}).destinations["mine"]
        assert isinstance(config, ObjectConfig)
        return config.fingerprint()

    least, full = fingerprint(Least()), fingerprint(Full())
    assert (least, full) == (fingerprint(Least()), fingerprint(Full()))
    elsewhere = Full()
    elsewhere.place = "https://example.com/outbox"
    assert len({least, full, fingerprint(elsewhere)}) == 3
    monkeypatch.setattr("sys.argv", ["/another/program"])
    assert fingerprint(Full()) == full
    assert fingerprint(Least()) != least


def test_object_is_not_in_dump_or_repr_of_the_settings() -> None:
    settings = load(None, {"destinations": {"mine": Least()}})
    assert "Least" not in repr(settings)
    assert settings.model_dump()["destinations"]["mine"]["type"] == "object"
    json.loads(settings.model_dump_json())
