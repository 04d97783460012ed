"""``spancast report``: complete enough for an issue, and without anything that must not be public."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from tests.cli.past import BLOCKED_S, Command, configure, file, pipeline, three
from tests.destinations.otlp_receiver import OtlpReceiver, status
from tests.destinations.spans import conversation
from tests.export.pipelines import otlp

from spancast.cli import report
from spancast.destinations.span_store import Store
from spancast.instrumentation.registry import CLIENTS
from spancast.model.version import VERSION

SECRET = "CANARY"


def test_report_has_versions_and_supported_ranges(run: Command) -> None:
    data = run.data("report")
    assert data["versions"]["spancast"] == VERSION
    assert data["versions"]["opentelemetry-sdk"] == version("opentelemetry-sdk")
    oldest = CLIENTS["openai"].min_version
    assert data["sdks"]["openai"] == f"{version('openai')} (supported: {oldest} and newer)"
    assert "opentelemetry-instrumentation-openai" in data["other_instrumentations"]
    assert "spancast" not in data["other_instrumentations"]


@pytest.mark.parametrize(
    ("installed", "oldest", "is_old"),
    [("1.9.0", "1.10.0", True), ("1.10.0", "1.10.0", False), ("1.0.0b9", "1.0.0b9", False), ("2", "1.9.9", False)],
)
def test_too_old_sdk_is_marked(installed: str, oldest: str, *, is_old: bool) -> None:
    assert bool(report._too_old(installed, oldest)) is is_old


def test_report_has_no_secret_text_or_home_directory(
    run: Command, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home-of-CANARY"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=CANARY")
    monkeypatch.setenv("LANGFUSE_KEY", "sk-CANARY")
    receiver.answer_with(status(400, body=b"the prompt CANARY with the key sk-CANARY"))
    pipeline({"vendor": otlp(receiver.url)}, three)
    Store(home / "state" / "spancast" / "spans.db").write(conversation())
    configure(
        {
            "vendor": otlp(receiver.url),
            "lf": {
                "type": "langfuse", "public_key": "pk-CANARY", "secret_key": "${env:LANGFUSE_KEY}",
                "base_url": "https://CANARY:CANARY@CANARY.example/CANARY", "headers": {"x-CANARY": "CANARY"},
                "filter_rules": {"groups": [{"rules": [{"field": "model", "operator": "equals", "value": "CANARY"}]}]},
                "mask": ["CANARY"], "privacy_mode": True, "sampling_rate": 0.5, "convention": "gen_ai",
                "api_keys": ["CANARY"], "enabled": False, "proxy": "http://CANARY:CANARY@proxy:8080",
            },
            "hook": {"type": "webhook", "url": "https://hooks.example/CANARY", "headers": {"Authorization": "CANARY"}},
        },
        service_name="CANARY", default_trace={"user_id": "CANARY"}, prices={"CANARY": {"input": 1}},
        completion_urls={"CANARY.example/v1": "openai_chat"}, strict=True,
    )  # fmt: skip
    run("check", "--offline")
    for printed in (run("report"), run("report", "--json")):
        assert SECRET not in printed
        assert "Order Processing" not in printed
        assert "LANGFUSE_KEY" not in printed
    data = run.data("report")
    assert data["configuration"]["variables"] == ["OTEL_RESOURCE_ATTRIBUTES"]
    assert data["configuration"]["settings"] == {
        "completion_urls": "1 set", "default_trace": "1 set", "prices": "1 set", "service_name": "set",
        "spool": {"path": "set"}, "strict": True,
    }  # fmt: skip
    assert data["configuration"]["destinations"]["lf"] == {
        "type": "langfuse", "api_keys": "1 set", "base_url": "set", "convention": "gen_ai", "enabled": False,
        "filter_rules": {"groups": [{"rules": [{"field": "model", "operator": "equals", "value": "set"}]}]},
        "headers": "1 set", "mask": [{"pattern": "set"}], "privacy_mode": True, "proxy": "set",
        "public_key": "set (secret)", "sampling_rate": 0.5, "secret_key": "set (secret)",
    }  # fmt: skip
    assert data["spool"]["destinations"]["vendor"]["dead_letter_reasons"] == {"HTTP 400": 3}
    assert data["store"]["path"] == "~/state/spancast/spans.db"
    assert data["store"]["spans"] == len(conversation())


def test_report_has_counters_of_the_spool(run: Command, blocked: Path) -> None:
    destinations = {"here": file("here"), "away": file("gone/away")}
    pipeline(destinations, three, BLOCKED_S)
    configure({"here": file("here")})
    spool = run.data("report")["spool"]
    here, away = spool["destinations"]["here"], spool["destinations"]["away"]
    assert (spool["spans"], here["delivered"], here["queued"], here["last_error"]) == (3, 3, 0, "")
    assert (away["delivered"], away["queued"]) == (0, 3)
    assert away["last_error"] in {"NotADirectoryError", "FileExistsError", "another error; `spancast spool` prints it"}


def test_former_account_of_a_destination_is_not_shown(run: Command, blocked: Path) -> None:
    pipeline({"away": file("gone/away")}, three, BLOCKED_S)
    configure({"away": file("elsewhere")})
    shown = run.data("report")["spool"]["destinations"]
    assert shown == {"away (other addresses or accounts)": {"destinations": 1, "queued": 3}}


def test_report_of_a_wrong_configuration_quotes_nothing(run: Command) -> None:
    configure({"lf": {"type": "langfuse", "CANARY": 1}}, CANARY=2)
    data = run.data("report")
    assert SECRET not in str(data)
    assert data["configuration"]["error"] == data["spool"]["error"] == data["store"]["error"]
    assert "`spancast check` prints them" in data["spool"]["error"]


def test_report_without_any_state(run: Command) -> None:
    data = run.data("report")
    assert data["configuration"] == {"file": "none", "variables": [], "settings": {}, "destinations": {}}
    assert data["store"]["error"] == "there is no file"
    assert data["spool"]["error"].startswith("no spool at ")


def test_damaged_store_is_reported(run: Command) -> None:
    path = Path("state/spancast/spans.db")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database, a file of 60 bytes that holds a CANARY instead")
    assert run.data("report")["store"]["error"] == "cannot be read: DatabaseError"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Langfuse: HTTP 401 (sk-CANARY is no key)", "HTTP 401"),
        ("cannot connect (ConnectionRefusedError: [Errno 111])", "ConnectionRefusedError"),
        ("rejected: CANARY", "another error; `spancast spool` prints it"),
        ("", ""),
    ],
)
def test_error_is_shown_by_status_and_kind(text: str, kind: str) -> None:
    assert report._kind(text) == kind


def test_empty_section_says_so() -> None:
    assert [str(line) for line in report._lines({"other_instrumentations": {}})] == [
        "other instrumentations", "  none", "",
    ]  # fmt: skip
