"""The commands that need only a configuration: ``schema``, ``destinations``, ``check``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from socket import create_server

import jsonschema
import pytest

from spancast.cli import main
from spancast.cli.connection_test import check_connections
from spancast.config import settings
from spancast.destinations import clickhouse, registry
from spancast.destinations.optional_imports import required
from spancast.destinations.protocol import Delivered, Rejected, Retry
from spancast.errors import ConfigError

CANARY = "canary-91c2"


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    for name in os.environ:
        if name.startswith("SPANCAST_"):
            monkeypatch.delenv(name)
    return tmp_path


def written(text: str) -> None:
    Path("spancast.yaml").write_text(text)


def test_schema_prints_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(printed)
    assert printed == settings.json_schema()


class TestDestinations:
    def test_destinations_lists_every_type(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["destinations"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == list(
            registry.DESTINATIONS
        )

    @pytest.mark.parametrize("kind", registry.DESTINATIONS)
    def test_destinations_type_shows_every_field(self, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["destinations", kind]) == 0
        printed = capsys.readouterr().out
        assert registry.DESTINATIONS[kind].about in printed
        shown = [line.split()[0] for line in printed.splitlines() if line.startswith("  ") and line[2] != " "]
        assert shown[: len(registry.fields(kind))] == [fact.name for fact in registry.fields(kind)]

    def test_destinations_type_describes_fields(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["destinations", "LangFuse"])
        out = capsys.readouterr().out
        lines = [" ".join(line.split()) for line in out.splitlines()]
        assert "secret_key Secret key, `sk-lf-…`. [required; secret]" in lines
        assert "enabled False: nothing is sent or queued for it. [default: true]" in lines
        assert "[default: genai; allowed: genai, all]" in " ".join(out.split())

    def test_destinations_clickhouse_shows_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["destinations", "clickhouse"])
        printed = capsys.readouterr().out
        assert clickhouse.ddl() in printed
        assert "pip install 'spancast[clickhouse]'" in printed

    def test_create_table_prints_the_statement(self, capsys: pytest.CaptureFixture[str]) -> None:
        written(
            "destinations: {a: {type: clickhouse, host: h, table: mine}, b: {type: postgres, url: 'postgresql://h/d'},"
            " c: {type: snowflake, account: a, token: t}, d: {type: bigquery, project: p}, e: {type: jaeger}}"
        )
        for name, start in (
            ("a", "CREATE TABLE IF NOT EXISTS `mine` (\n    TRACE_ID String,"),
            ("b", 'CREATE TABLE IF NOT EXISTS "openrouter_traces" (\n    "trace_id" text not null,'),
            ("c", "CREATE TABLE IF NOT EXISTS OPENROUTER_TRACES (\n    TRACE_ID VARCHAR NOT NULL,"),
            ("d", "CREATE TABLE IF NOT EXISTS `p.openrouter.openrouter_traces` (\n    `trace_id` STRING NOT NULL,"),
        ):
            assert main(["destinations", "create-table", name]) == 0
            printed = capsys.readouterr().out
            assert printed.startswith(start)
            assert printed.endswith(";\n")

    @pytest.mark.parametrize("arguments", [["create-table"], ["create-table", "e"], ["create-table", "x", "--run"]])
    def test_create_table_needs_a_destination_with_a_table(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        written("destinations: {a: {type: postgres, url: 'postgresql://h/d'}, e: {type: jaeger}}")
        assert main(["destinations", *arguments]) == 2
        assert "the name of a destination with a table" in (error := capsys.readouterr().err)
        assert "configured: a" in error

    @pytest.mark.parametrize("arguments", [["langfuse", "x"], ["langfuse", "--run"]])
    def test_arguments_of_create_table_are_of_no_type(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["destinations", *arguments]) == 2
        assert "spancast destinations create-table NAME" in capsys.readouterr().err

    def test_destinations_misspelled_type_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["destinations", "jager"]) == 2
        assert "unknown type `jager`; did you mean `jaeger`?" in capsys.readouterr().err


class TestCheck:
    def test_check_offline_only_validates(self, capsys: pytest.CaptureFixture[str]) -> None:
        written("destinations: {a: {type: jaeger, endpoint: 'http://127.0.0.1:9'}, b: {type: console, enabled: false}}")
        assert main(["check", "--offline"]) == 0
        assert capsys.readouterr().out == "spancast.yaml: valid; 1 destination enabled\n  off   b (console)\n"

    def test_check_invalid_file_prints_every_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        written(f"strict: perhaps\ndestinations: {{a: {{type: langfuse, public_key: x, secret_keys: {CANARY}}}}}")
        assert main(["check"]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert [line.split(": ")[0].strip() for line in printed.err.splitlines()[1:]] == [
            "destinations.a.secret_key", "destinations.a.secret_keys", "strict",
        ]  # fmt: skip
        assert CANARY not in printed.err

    def test_check_missing_file_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["check", "nowhere.yaml"]) == 1
        assert "nowhere.yaml: cannot be read" in capsys.readouterr().err

    def test_check_without_file_uses_environment(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPANCAST_DESTINATIONS", "{out: {type: file, path: spans.jsonl}}")
        assert main(["check"]) == 0
        assert capsys.readouterr().out == "environment: valid; 1 destination enabled\n  ok    out (file)\n"

    def test_check_without_any_configuration_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["check"]) == 1
        assert "no configuration: SPANCAST_CONFIG is not set" in capsys.readouterr().err

    @pytest.mark.parametrize("options", [[], ["--offline"]])
    @pytest.mark.parametrize("is_made", [True, False])
    def test_check_unusable_spool_fails(
        self, is_made: bool, options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        written("spool: {path: taken/here}\ndestinations: {out: {type: file, path: a.jsonl}}")
        if is_made:
            Path("taken/here/spool.sqlite3").mkdir(parents=True)
        else:
            Path("taken").write_text("a file, where a directory is needed")
        assert main(["check", *options]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].startswith("  FAIL  spool: ")
        assert ("is not a file" if is_made else "taken is not a directory") in " ".join(lines)

    def test_check_failed_connection_returns_1(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("taken").write_text("a file, where a directory is needed")
        written("destinations: {good: {type: file, path: a.jsonl}, bad: {type: file, path: taken/a.jsonl}}")
        assert main(["check"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[:2] == ["spancast.yaml: valid; 2 destinations enabled", "  ok    good (file)"]
        assert lines[2].startswith("  FAIL  bad (file): taken/a.jsonl: ")
        assert lines[2].endswith("; temporary, spans would stay queued")

    def test_check_missing_package_is_named(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "boto3", None)
        written("destinations: {audit: {type: s3, bucket: traces}}")
        assert main(["check"]) == 1
        line = "FAIL  audit (s3): destinations.audit: boto3 is not installed; run `pip install 'spancast[s3]'`"
        assert line in capsys.readouterr().out

    def test_check_invalid_timeout_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["check", "--timeout", "soon"])
        assert ended.value.code == 2
        assert "must be a duration such as" in capsys.readouterr().err


class ScriptedDestination:
    """A destination with a scripted connection test, returned by ``registry.create``."""

    def __init__(self, act: object) -> None:
        self._act = act
        self.is_closed = False

    def test_connection(self, timeout_s: float) -> object:
        return self._act(timeout_s) if callable(self._act) else self._act

    def close(self) -> None:
        self.is_closed = True


class TestConnections:
    @pytest.fixture(autouse=True)
    def destinations(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, ScriptedDestination]:
        created: dict[str, ScriptedDestination] = {}
        monkeypatch.setattr(registry, "create", lambda _, name: created[name])
        return created

    def results(
        self, destinations: dict[str, ScriptedDestination], timeout_s: float = 10.0
    ) -> list[tuple[str, bool, str]]:
        config = registry.config_model("console").model_validate({"type": "console"})
        return [
            (one.name, one.is_ok, one.text) for one in check_connections(dict.fromkeys(destinations, config), timeout_s)
        ]

    def test_each_outcome_gives_its_result(self, destinations: dict[str, ScriptedDestination]) -> None:
        destinations.update(
            fine=ScriptedDestination(Delivered(message="2 projects")),
            part=ScriptedDestination(Delivered(rejected=1, message="no such project")),
            mute=ScriptedDestination(Delivered(rejected=1)),
            soon=ScriptedDestination(Retry("HTTP 503", 3.0)),
            never=ScriptedDestination(Rejected("HTTP 401")),
        )
        assert self.results(destinations) == [
            ("fine", True, "2 projects"),
            ("part", False, "no such project"),
            ("mute", False, "the test span was rejected"),
            ("soon", False, "HTTP 503; temporary, spans would stay queued"),
            ("never", False, "HTTP 401"),
        ]
        assert all(one.is_closed for one in destinations.values())

    def test_connections_are_tested_in_parallel(self, destinations: dict[str, ScriptedDestination]) -> None:
        both = threading.Barrier(2, timeout=30)

        def meet(_: float) -> Delivered:
            both.wait()
            return Delivered()

        destinations.update(a=ScriptedDestination(meet), b=ScriptedDestination(meet))
        assert [fine for _, fine, _ in self.results(destinations)] == [True, True]

    def test_hanging_connection_does_not_block_others(self, destinations: dict[str, ScriptedDestination]) -> None:
        release, has_ended = threading.Event(), threading.Event()

        def hang(_: float) -> Delivered:
            release.wait(60)
            has_ended.set()
            return Delivered()

        destinations.update(hangs=ScriptedDestination(hang), fine=ScriptedDestination(Delivered()))
        # Only the first has a short time limit, so that a busy machine cannot delay the second beyond its own.
        configs = {
            "hangs": registry.config_model("webhook").model_validate(
                {"type": "webhook", "url": "http://h", "timeout": 0.01}
            ),
            "fine": registry.config_model("console").model_validate({"type": "console"}),
        }
        assert [(one.name, one.is_ok, one.text) for one in check_connections(configs)] == [
            ("hangs", False, "no response within 0.01 s"),
            ("fine", True, ""),
        ]
        assert not has_ended.is_set(), "the results must come while the first test hangs"
        release.set()


def test_check_silent_server_does_not_block_exit() -> None:
    """In a separate process, to show that no thread prevents its exit."""
    with create_server(("127.0.0.1", 0)) as silent:
        written(f"destinations: {{a: {{type: webhook, url: 'http://127.0.0.1:{silent.getsockname()[1]}/in'}}}}")
        code = "import sys; from spancast.cli import main; sys.exit(main(['check', '--timeout', '200ms']))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "  FAIL  a (webhook): " in done.stdout
    assert done.stderr == ""


def test_module_that_needs_another_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As google-auth does without packaging.
    (tmp_path / "needy_module.py").write_text("raise ImportError('install more')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=re.escape("needy_module is not installed; run `pip install 'spancast[x]'`")):
        required("needy_module", "x")
