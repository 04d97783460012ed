"""The Parquet destination, read by DuckDB and polars; object stores with moto over a real socket."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.configs import CANARY
from tests.destinations.conftest import Explained
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import LEAKS, conversation, records, span
from tests.e2e.servers import binary, poll
from tests.encoding.test_conventions import TOOLS
from tests.ports import own_port

from spancast.destinations import parquet
from spancast.destinations.parquet import ParquetConfig, ParquetDestination
from spancast.destinations.protocol import Delivered, Rejected, Retry
from spancast.destinations.sql_rows import ROW_NAMES
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.redaction import Redaction
from spancast.errors import ConfigError
from spancast.testing import check_destination

pytest.importorskip("pyarrow", reason="NO PARQUET: pyarrow is not installed")
duckdb = pytest.importorskip("duckdb", reason="NO READER OF PARQUET: duckdb is not installed")
polars = pytest.importorskip("polars", reason="NO READER OF PARQUET: polars is not installed")

BUCKET = "parquet"
DAY_MS = 24 * 3600 * 1000


def destination(path: Path | str, **others: Any) -> ParquetDestination:
    return parquet.create(ParquetConfig.model_validate({"type": "parquet", "path": str(path), **others}), ENCODER)


def rows(folder: Path | str) -> list[dict[str, Any]]:
    found = duckdb.sql(f"SELECT * FROM read_parquet('{folder}/**/*.parquet', hive_partitioning=true) ORDER BY span_id")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_same_batch_is_the_same_file(tmp_path: Path) -> None:
    to = destination(tmp_path / "traces")
    assert [to.deliver(payload(), 60), to.deliver(payload(), 60)] == [Delivered(), Delivered()]
    assert to.deliver(payload(conversation()[:1]), 60) == Delivered()
    to.close()
    first, second = files(tmp_path / "traces")
    assert first.startswith("date=2026-09-29/1790683200000000000-")
    assert second.startswith("date=2026-09-29/1790683200010000000-")


def test_duckdb_reads_typed_columns(tmp_path: Path) -> None:
    assert destination(tmp_path).deliver(payload(), 60) == Delivered()
    found = rows(tmp_path)
    assert list(found[0]) == [*ROW_NAMES, "date"]
    call = found[2]
    assert (call["trace_id"], call["prompt_tokens"], call["total_cost"]) == ("order_processing_001", 100, 0.00075)
    assert call["start_time"].astimezone(dt.UTC) == dt.datetime(2026, 9, 29, 12, 0, 0, 10_000, tzinfo=dt.UTC)
    assert call["tags"] == []
    assert json.loads(call["input"])["messages"][-1] == {"role": "user", "content": "Process this order..."}
    [(total,)] = duckdb.sql(
        f"SELECT sum(total_cost) FROM read_parquet('{tmp_path}/**/*.parquet') WHERE model = 'openai/gpt-4o'"
    ).fetchall()
    assert total == 0.00075


def test_polars_reads_partitions(tmp_path: Path) -> None:
    days = [span("a", 1), span("b", 2, at_ms=DAY_MS, attributes={"trace.metadata.tags": ["x", "y"]})]
    assert destination(tmp_path).deliver(payload(days), 60) == Delivered()
    assert [name.partition("/")[0] for name in files(tmp_path)] == ["date=2026-09-29", "date=2026-09-30"]
    table = polars.scan_parquet(f"{tmp_path}/**/*.parquet", hive_partitioning=True).sort("span_id").collect()
    assert table["date"].to_list() == [dt.date(2026, 9, 29), dt.date(2026, 9, 30)]
    assert table["tags"].to_list() == [[], ["x", "y"]]
    assert table.schema["start_time"] == polars.Datetime("us", "UTC")
    assert table["prompt_tokens"].dtype == polars.Int64


def test_file_is_private_and_appears_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.append(files(tmp_path))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    assert destination(tmp_path).deliver(payload(), 60) == Delivered()
    [[before]] = seen
    assert before.endswith(".tmp")
    assert Path(before).name.startswith(".")
    [name] = files(tmp_path)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_full_disk_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    to = destination(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, Retry)
    assert "No space left on device" in outcome.reason
    assert files(tmp_path) == []
    assert to.deliver(payload(), 60) == Delivered()
    assert len(rows(tmp_path)) == 4


def test_connection_test_writes_no_table(tmp_path: Path) -> None:
    to = destination(tmp_path / "new")
    assert to.test_connection(60) == Delivered()
    assert files(tmp_path / "new") == ["connection-test"]
    (tmp_path / "file").write_text("")
    outcome = destination(tmp_path / "file").test_connection(60)
    assert isinstance(outcome, Retry)


def test_odd_texts_and_privacy_mode(tmp_path: Path) -> None:
    private = SpanEncoder(redaction=Redaction(is_private=True, key="p"), convention="gen_ai")
    leaking = records([span("call", 9, attributes={**TOOLS, **LEAKS}, status="error", status_message="canary")])
    to = destination(tmp_path)
    assert to.deliver(private.payload(leaking), 60) == Delivered()
    odd = {"gen_ai.request.model": "m\x00\ud800", "gen_ai.usage.input_tokens": 2**70, "gen_ai.usage.cost": float("nan")}
    assert to.deliver(payload([span("odd", 1, attributes=odd), span("fine", 2)]), 60) == Delivered()
    strange, fine, called = rows(tmp_path)
    assert strange["model"] == "m\ufffd?"
    assert fine["span_id"].endswith("2")
    assert called["model"] == "openai/gpt-4o"
    assert "canary" not in str(called)


def test_local_contract(tmp_path: Path) -> None:
    check_destination(lambda: {"type": "parquet", "path": str(tmp_path)})
    assert len(rows(tmp_path)) == 6


# Object stores.


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="NO S3 SERVER: moto is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def bucket(url: str) -> Iterator[Any]:
    boto3 = pytest.importorskip("boto3")
    fields = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    client = boto3.client("s3", **fields)
    client.create_bucket(Bucket=BUCKET)
    yield client
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


def options(url: str) -> dict[str, str]:
    return {"endpoint": url, "access_key_id": "key", "secret_access_key": CANARY, "region": "us-east-1"}


def test_object_store_gets_the_same_files(url: str, bucket: Any, tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="NO OBJECT STORES: obstore is not installed")
    to = destination(f"s3://{BUCKET}/some/traces", options=options(url))
    assert to.test_connection(60) == Delivered()
    assert [to.deliver(payload(), 60), to.deliver(payload(), 60)] == [Delivered(), Delivered()]
    keys = [entry["Key"] for entry in bucket.list_objects_v2(Bucket=BUCKET)["Contents"]]
    [name] = [key for key in keys if key.endswith(".parquet")]
    assert name.startswith("some/traces/date=2026-09-29/")
    (tmp_path / "one.parquet").write_bytes(bucket.get_object(Bucket=BUCKET, Key=name)["Body"].read())
    assert len(rows(tmp_path)) == 4


def test_object_store_errors_are_outcomes_without_credentials(url: str, bucket: Any) -> None:
    pytest.importorskip("obstore", reason="NO OBJECT STORES: obstore is not installed")
    missing = destination("s3://nowhere/traces", options=options(url)).deliver(payload(), 60)
    assert isinstance(missing, Rejected)
    assert "s3://nowhere/traces" in missing.reason
    gone = destination(f"s3://{BUCKET}/t", options=options("http://127.0.0.1:9"), timeout=5).deliver(payload(), 60)
    assert isinstance(gone, Retry)
    assert CANARY not in f"{missing} {gone}"


def test_unknown_option_is_an_error_of_the_configuration() -> None:
    pytest.importorskip("obstore", reason="NO OBJECT STORES: obstore is not installed")
    with pytest.raises(ConfigError, match="path, options: ") as raised:
        destination("s3://b/t", options={"no_such": CANARY})
    assert CANARY not in str(raised.value)


@pytest.mark.parametrize("path", ["ftp://host/x", "s3://", "s3://key:secret@bucket/x", "s3://bucket?x=1"])
def test_other_addresses_are_rejected(path: str) -> None:
    with pytest.raises(ValueError, match="must be a folder"):
        ParquetConfig.model_validate({"type": "parquet", "path": path})


def test_object_store_contract(url: str, bucket: Any) -> None:
    pytest.importorskip("obstore", reason="NO OBJECT STORES: obstore is not installed")
    entry = {"type": "parquet", "path": f"s3://{BUCKET}/contract", "options": options(url)}
    check_destination(
        lambda: entry,
        unreachable=lambda: {**entry, "options": options("http://127.0.0.1:9"), "timeout": 1},
        secrets=[CANARY],
    )


def test_explain_follows_a_span(tmp_path: Path, explained: Explained) -> None:
    assert explained({"type": "parquet", "path": str(tmp_path / "traces")})[0] == "delivered"
    assert len(rows(tmp_path / "traces")) == 1
    (tmp_path / "file").write_text("in the way")
    state, reason = explained({"type": "parquet", "path": str(tmp_path / "file" / "traces")}, is_away=True)
    assert (state, "Not a directory" in reason) == ("queued", True)


def test_explain_names_the_missing_bucket_of_a_span(url: str, explained: Explained) -> None:
    pytest.importorskip("obstore", reason="NO OBJECT STORES: obstore is not installed")
    state, reason = explained({"type": "parquet", "path": "s3://missing/traces", "options": options(url)})
    assert (state, "s3://missing/traces" in reason) == ("dead_lettered", True)


# Azure's storage, with azurite from npm: `servers/build azurite`.

AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account of every emulator, from its documentation."""


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = binary("azurite", is_heavy=True)
    port = own_port()
    ports = [
        f"--{kind}Port={number}" for kind, number in (("blob", port), ("queue", own_port()), ("table", own_port()))
    ]
    folder = tmp_path_factory.mktemp("azurite")
    process = subprocess.Popen(
        [str(server), "--skipApiVersionCheck", "--silent", f"--location={folder}", *ports],
        stdout=subprocess.DEVNULL,
    )

    def answers() -> bool | None:
        with socket.socket() as probe:
            return True if probe.connect_ex(("127.0.0.1", port)) == 0 else None

    poll(answers, "azurite")
    yield f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    # At SIGTERM it waits for the connections of its clients.
    process.kill()
    process.wait(30)


def test_azure_gets_the_same_files(azurite: str, tmp_path: Path) -> None:
    obstore = pytest.importorskip("obstore", reason="NO OBJECT STORES: obstore is not installed")
    given = {"account_name": AZURE_ACCOUNT, "endpoint": azurite, "account_key": AZURE_KEY}
    path = "az://traces/some/folder"
    with pytest.raises(ConfigError, match="Account must be specified"):
        destination(path, options={"account_key": AZURE_KEY})
    missing = destination(path, options=given).deliver(payload(), 60)
    assert isinstance(missing, Rejected)
    assert path in missing.reason
    create_container(azurite)
    to = destination(path, options=given)
    assert to.test_connection(60) == Delivered()
    assert [to.deliver(payload(), 60), to.deliver(payload(), 60)] == [Delivered(), Delivered()]
    wrong = destination(path, options={**given, "account_key": "d3Jvbmc="}).deliver(payload(), 60)
    assert isinstance(wrong, Retry)
    store = obstore.store.from_url(path, config=given, client_options={"allow_http": True})
    names = [entry["path"] for entry in obstore.list(store).collect()]
    [name] = [name for name in names if name.endswith(".parquet")]
    (tmp_path / "one.parquet").write_bytes(bytes(obstore.get(store, name).bytes()))
    assert len(rows(tmp_path)) == 4


def create_container(url: str) -> None:
    """Create the container `traces`, signed as the emulator's account."""
    now = dt.datetime.now(dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": now, "x-ms-version": "2021-08-06"}
    listed = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\n{listed}/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/traces\nrestype:container"
    digest = hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()
    signed = {**headers, "Authorization": f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}"}
    request = urllib.request.Request(f"{url}/traces?restype=container", method="PUT", headers=signed)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 201
