"""Tests of ``Place``, the identity of a destination, and of its fingerprint in different programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.configs import config

from spancast.destinations.place import Place, absolute, plain_url

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, sys
from tests.destinations.configs import config
def token():
    return {}
print(json.dumps([
    config("console", stream="stdout").fingerprint(),
    config("console", stream="stderr").fingerprint(),
    config("exporter").fingerprint(),
    config("otlp", headers_from=token).fingerprint(),
]))
"""


def fingerprints(program: Path, **options: Any) -> list[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    completed = subprocess.run([sys.executable, program], check=True, env=environment, **options)
    return [] if completed.stdout is None else json.loads(completed.stdout)


@pytest.fixture
def programs(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "one.py", tmp_path / "two.py"
    for path in paths:
        path.write_text(PROGRAM)
    return paths


def test_fingerprint_of_pipes_differs_by_program(programs: tuple[Path, Path]) -> None:
    one, two = (fingerprints(program) for program in programs)
    assert one == fingerprints(programs[0]), "the next process of the program delivers queued spans"
    assert all(a != b for a, b in zip(one, two, strict=True))


def test_fingerprint_of_one_output_file_is_equal_in_two_programs(programs: tuple[Path, Path], tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, (tmp_path / "other").open("wb") as other:
        for program, stream in zip((*programs, programs[0]), (log, log, other), strict=True):
            fingerprints(program, stdout=stream)
    one, two = map(json.loads, (tmp_path / "log").read_text().splitlines())
    [elsewhere] = map(json.loads, (tmp_path / "other").read_text().splitlines())
    assert (one[0], one[2]) == (two[0], two[2])
    assert elsewhere[0] != one[0]
    assert elsewhere[2] != one[2]
    assert one[3] != two[3], "each program has its own function"


def test_place_of_stream_without_file_is_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    for stand_in in (None, object()):
        monkeypatch.setattr(sys, "stderr", stand_in)
        assert config("console").place().address["goes_to"] == absolute(sys.argv[0])


def test_fingerprint_of_relative_path_depends_on_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    found: list[str] = []
    for directory in (tmp_path, tmp_path / "sub"):
        monkeypatch.chdir(directory)
        found.append(config("file", path="spans.jsonl").fingerprint())
    assert found[0] != found[1]
    for same in (str(tmp_path / "sub" / "spans.jsonl"), "./spans.jsonl", "../sub//spans.jsonl"):
        assert config("file", path=same).fingerprint() == found[1]


def test_absolute_expands_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute("~/spans.db") == str(tmp_path / "spans.db")


def test_absolute_in_removed_directory_returns_the_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert absolute("./spans.db") == "spans.db"


class TestExporter:
    def test_fingerprint_includes_otel_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = [config("exporter", exporter="otlp_proto_http").fingerprint()]
        for name, value in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://one.test:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://two.test:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=one"),
        ]:
            monkeypatch.setenv(name, value)
            found.append(config("exporter", exporter="otlp_proto_http").fingerprint())
        assert len(set(found)) == 4
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://TWO.test:4318/")
        assert config("exporter", exporter="otlp_proto_http").fingerprint() == found[3]

    def test_fingerprint_includes_options_of_any_type(self) -> None:
        def found(**options: Any) -> str:
            return config("exporter", options=options).fingerprint()

        assert found(endpoint="https://one.test/") == found(endpoint="https://one.test")
        assert found(endpoint="https://one.test") != found(endpoint="https://two.test")
        assert found(headers={"a": "1"}) != found(headers={"a": "2"})
        assert found(a=1, b=2) == found(b=2, a=1)
        assert found(session=object()) == found(session=object()), "the identity of an object differs between processes"
        assert found(odd={1: 2, "a": 3, (1, 2): 4, "nan": float("nan"), "bytes": b"x", "\ud800": "\ud800"})


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_fingerprint_of_s3_includes_boto3_endpoint_variables(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    amazon = config("s3").fingerprint()
    monkeypatch.setenv(variable, "https://minio.test/")
    assert config("s3").fingerprint() == config("s3", endpoint="https://minio.test").fingerprint() != amazon


def test_fingerprint_of_s3_outside_amazon_includes_the_access_key() -> None:
    def found(**fields: str) -> str:
        return config("s3", endpoint="https://ceph.test", **fields).fingerprint()

    assert found(access_key_id="one") != found(access_key_id="two")
    assert found(session_token="t", access_key_id="one") == found(session_token="t", access_key_id="two")


def test_fingerprint_of_s3_normalizes_the_prefix() -> None:
    def found(prefix: str, template: str) -> str:
        return config("s3", prefix=prefix, path_template=template).fingerprint()

    assert found("team", "{prefix}/{date}") == found("/team", "{prefix}/{date}/") == found("x", "team/{date}")
    assert found("team", "{prefix}/{date}") != found("other", "{prefix}/{date}")


def test_fingerprint_of_grpc_ignores_the_path() -> None:
    def found(endpoint: str) -> str:
        return config("otlp", endpoint=endpoint).fingerprint()

    assert found("http://host.test:4317") == found("http://host.test:4317/") == found("http://host.test:4317/any")
    assert found("http://host.test:4318") == found("http://host.test:4318/v1/traces/")
    assert found("http://host.test:4318") != found("http://host.test:4318/team")


def test_plain_url_normalizes_url() -> None:
    assert plain_url("HTTPS://me:pw@Host.Test./a/B/?q=1#f") == "https://host.test:443/a/B"
    assert plain_url("http://[::1]:4318") == "http://::1:4318"


def test_fingerprint_ignores_empty_fields() -> None:
    short = Place(address={"url": "a"})
    assert Place(address={"url": "a", "region": None}, account={"user": None}) != short
    assert Place(address={"url": "a", "region": None}, credentials={"key": None}).fingerprint("x") == short.fingerprint(
        "x"
    )
    assert short.fingerprint("x") != short.fingerprint("y"), "the type counts"
    assert Place(address={}, account={"url": "a"}).fingerprint("x") != short.fingerprint("x")
