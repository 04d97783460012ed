"""Tests of the ClickHouse destination with ClickHouse's engine (chdb), through clickhouse-connect."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from tests.destinations.configs import CANARY
from tests.destinations.golden import assert_golden
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import LEAKS, conversation, records, span
from tests.encoding.test_conventions import TOOLS
from tests.export.pipelines import call, pipeline_with, tracing

from spancast.destinations import clickhouse
from spancast.destinations.clickhouse import COLUMNS, Address, ClickHouseConfig, ClickHouseDestination
from spancast.destinations.protocol import Delivered, Rejected, Retry
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.redaction import Redaction
from spancast.encoding.span_data import SpanData
from spancast.model import semconv

clickhouse_connect = pytest.importorskip(
    "clickhouse_connect", reason="NO CLICKHOUSE: clickhouse-connect is not installed"
)
pytest.importorskip("chdb", reason="NO CLICKHOUSE ENGINE: chdb is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

EXAMPLE_COLUMNS = [
    "TRACE_ID", "SPAN_ID", "PARENT_SPAN_ID", "USER_ID", "SESSION_ID", "ORGANIZATION_ID", "ENTITY_ID", "API_KEY_NAME", "TIMESTAMP",
    "START_TIME", "END_TIME", "DURATION_MS", "MODEL", "PROVIDER_NAME", "PROVIDER_SLUG", "STATUS", "LEVEL", "FINISH_REASON",
    "PROMPT_TOKENS", "COMPLETION_TOKENS", "TOTAL_TOKENS", "CACHED_TOKENS", "CACHE_WRITE_TOKENS", "REASONING_TOKENS", "INPUT_COST", "OUTPUT_COST",
    "TOTAL_COST", "TAGS", "ATTRIBUTES", "INPUT", "OUTPUT", "METADATA", "MODEL_PARAMETERS", "RESOURCE_ATTRIBUTES", "SPAN_TYPE",
]  # fmt: skip


@pytest.fixture
def engine() -> Iterator[Any]:
    client = clickhouse_connect.get_client(interface="chdb", autogenerate_session_id=False)
    yield client
    for (name,) in client.query("SHOW TABLES").result_rows:
        client.command(f"DROP TABLE {clickhouse._quote(name)}")
    client.close()


class SharedClient:
    """The engine's client, without ``close``: a destination closes its client after an error."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def close(self) -> None:
        """Do nothing."""


def destination(engine: Any, **others: Any) -> ClickHouseDestination:
    config = ClickHouseConfig.model_validate({"type": "clickhouse", "host": "localhost", **others})
    return ClickHouseDestination(config, ENCODER, lambda: SharedClient(engine))


def rows(engine: Any, table: str = clickhouse.DEFAULT_TABLE) -> list[dict[str, Any]]:
    found = engine.query(f"SELECT * FROM `{table}` FINAL ORDER BY SPAN_ID")
    return [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]


def test_columns_are_those_of_openrouter() -> None:
    assert sorted(COLUMNS) == sorted(EXAMPLE_COLUMNS)


def test_deliver_in_privacy_mode_inserts_no_content(engine: Any) -> None:
    private = SpanEncoder(redaction=Redaction(is_private=True, key="p"), convention="gen_ai")
    call = span("call", 1, attributes={**TOOLS, **LEAKS}, status="error", status_message="canary")
    to = destination(engine, create_table=True)
    assert to.deliver(private.payload(records([call])), 5) == Delivered()
    [row] = rows(engine)
    assert "canary" not in json.dumps(row, default=str)
    assert (row["PROMPT_TOKENS"], row["TOTAL_COST"], row["SESSION_ID"]) == (100, 0.00075, "session_abc")
    assert (row["INPUT"], row["OUTPUT"]) == ("{}", "{}")
    assert json.loads(row["METADATA"])["order_id"] == "ORD-12345"
    assert json.loads(row["MODEL_PARAMETERS"]) == {"temperature": 0.7, "max_tokens": 150, "plugins": '[{"id":"web"}]'}


def test_deliver_twice_inserts_one_row_per_span(engine: Any) -> None:
    to = destination(engine, create_table=True, entity_id="team", organization_id="org")
    named = [
        one.with_attributes({**one.attributes, semconv.TRACE_METADATA + "api_key_name": "prod-key"})
        for one in conversation()
    ]
    assert to.test_connection(60) == Delivered()
    assert [to.deliver(payload(named), 60) for _ in range(2)] == [Delivered(), Delivered()]
    to.close()
    found = rows(engine)
    assert len(found) == 4
    called = found[2]
    attributes = json.loads(called.pop("ATTRIBUTES"))
    assert attributes["gen_ai.request.model"] == "openai/gpt-4o"
    assert called == {
        "TRACE_ID": "order_processing_001",
        "SPAN_ID": "0000000000000003",
        "PARENT_SPAN_ID": "0000000000000002",
        "USER_ID": "user_12345",
        "SESSION_ID": "session_abc",
        "ORGANIZATION_ID": "org",
        "ENTITY_ID": "team",
        "API_KEY_NAME": "prod-key",
        "TIMESTAMP": datetime(2026, 9, 29, 12, 0, 0, 10_000),  # noqa: DTZ001 - the library returns naive times
        "START_TIME": datetime(2026, 9, 29, 12, 0, 0, 10_000),  # noqa: DTZ001 - the library returns naive times
        "END_TIME": datetime(2026, 9, 29, 12, 0, 1, 10_000),  # noqa: DTZ001 - the library returns naive times
        "DURATION_MS": 1000.0,
        "MODEL": "openai/gpt-4o",
        "PROVIDER_NAME": "OpenAI",
        "PROVIDER_SLUG": "openai",
        "SPAN_TYPE": "GENERATION",
        "STATUS": "ok",
        "LEVEL": "DEFAULT",
        "FINISH_REASON": "stop",
        "PROMPT_TOKENS": 100,
        "COMPLETION_TOKENS": 50,
        "TOTAL_TOKENS": 150,
        "CACHED_TOKENS": 20,
        "CACHE_WRITE_TOKENS": 0,
        "REASONING_TOKENS": 5,
        "INPUT_COST": 0.00025,
        "OUTPUT_COST": 0.0005,
        "TOTAL_COST": 0.00075,
        "TAGS": [],
        "INPUT": '{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Process this order..."}]}',
        "OUTPUT": '{"completion":"Order ORD-12345: 2 items.","reasoning":null}',
        "METADATA": '{"trace_id":"order_processing_001","trace_name":"Order Processing Pipeline","generation_name":"Extract Order Details","order_id":"ORD-12345","priority":"high","api_key_name":"prod-key"}',
        "MODEL_PARAMETERS": '{"temperature":0.7,"max_tokens":150,"user_tier":"gold"}',
        "RESOURCE_ATTRIBUTES": '{"service.name":"support-bot"}',
    }
    assert (found[3]["STATUS"], found[3]["LEVEL"], found[3]["MODEL"]) == ("error", "ERROR", "claude-4.5-sonnet")
    assert (found[0]["SPAN_TYPE"], found[0]["MODEL"], found[0]["INPUT"]) == ("SPAN", None, "{}")


def test_deliver_to_own_table_fills_only_existing_columns(engine: Any) -> None:
    engine.command(
        "CREATE TABLE mine (trace_id String, ATTRIBUTES JSON, METADATA Map(String, String), INPUT Nullable(String),"
        " DURATION_MS Float32, more Int32 DEFAULT 7) ENGINE = Memory"
    )
    assert destination(engine, table="mine").deliver(payload(conversation()[1:2]), 60) == Delivered()
    query = "SELECT trace_id, ATTRIBUTES.gen_ai.request.model, METADATA['order_id'], INPUT, DURATION_MS, more FROM mine"
    assert engine.query(query).result_rows == [
        ("order_processing_001", "claude-4.5-sonnet", "ORD-12345", None, 80.0, 7)
    ]


def test_deliver_supports_the_query_in_openrouters_documentation(engine: Any) -> None:
    destination(engine, create_table=True).deliver(payload(), 60)
    query = "SELECT MODEL, sum(TOTAL_COST), JSONExtractString(METADATA, 'order_id') FROM OPENROUTER_TRACES WHERE SPAN_TYPE = 'GENERATION' AND STATUS = 'ok' GROUP BY 1, 3"
    assert engine.query(query).result_rows == [("openai/gpt-4o", 0.00075, "ORD-12345")]


def test_deliver_to_missing_table_is_rejected_until_it_is_created(engine: Any) -> None:
    to = destination(engine)
    assert to.deliver(payload(), 60) == Rejected(
        "ClickHouse localhost: error 60 UNKNOWN_TABLE; create OPENROUTER_TRACES, or set create_table"
    )
    assert isinstance(to.test_connection(60), Rejected)
    engine.command(clickhouse.ddl())
    assert to.deliver(payload(), 60) == Delivered()


def test_deliver_after_a_column_was_dropped_is_retried_without_it(engine: Any) -> None:
    to = destination(engine, create_table=True)
    assert to.deliver(payload(), 60) == Delivered()
    engine.command("ALTER TABLE OPENROUTER_TRACES DROP COLUMN MODEL_PARAMETERS")
    outcomes = [to.deliver(payload(), 60), to.deliver(payload(), 60)]
    assert isinstance(outcomes[0], Retry)
    assert outcomes[1] == Delivered()


def test_deliver_rejected_row_hides_its_text(engine: Any) -> None:
    engine.command("CREATE TABLE strict (TRACE_ID UInt8) ENGINE = Memory")
    outcome = destination(engine, table="strict").deliver(payload(), 60)
    assert isinstance(outcome, Rejected)
    assert "order_processing" not in outcome.reason


ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "not a number": ("SESSION_ID UInt64", "Rejected", {semconv.SESSION_ID: "x"}),
    "negative number": ("SESSION_ID UInt64", "Failed", {semconv.SESSION_ID: "-1"}),
    "not a time": ("SESSION_ID DateTime64(3)", "Failed", {semconv.SESSION_ID: "soon"}),
    "long text": ("SESSION_ID FixedString(4)", "Failed", {semconv.SESSION_ID: "canary of the row"}),
    "constraint": ("SESSION_ID String, CONSTRAINT c CHECK SESSION_ID != 'no'", "Failed", {semconv.SESSION_ID: "no"}),
}


@pytest.mark.parametrize("position", [0, 100, 200])
@pytest.mark.parametrize("name", ROWS)
def test_deliver_with_invalid_row_dead_letters_only_that_row(name: str, position: int, engine: Any) -> None:
    columns, outcome, odd = ROWS[name]
    engine.command(f"CREATE TABLE choosy (SPAN_ID String, {columns}) ENGINE = Memory")
    to = destination(engine, table="choosy")
    pipeline = pipeline_with({"one": to}, None)
    fine = "2026-11-30T12:00:00Z" if "DateTime" in columns else "12"
    with tracing(pipeline) as tracer, pipeline.span_queue._processing:
        made = [call(tracer, n, **{semconv.SESSION_ID: fine, **(odd if n == position else {})}) for n in range(201)]
    report = pipeline.flush(60)
    counts = report.destinations["one"]
    assert (counts.delivered, counts.dead_lettered, counts.queued) == (200, 1, 0), str(report)
    assert not report
    [buried] = pipeline.spool.dead_letters()
    assert (buried.trace_id, buried.span_id) == made[position]
    assert buried.reason.startswith("ClickHouse localhost: error ")
    assert "canary" not in buried.reason
    found = {span_id for (span_id,) in engine.query("SELECT SPAN_ID FROM choosy").result_rows}
    assert found == {span_id for _, span_id in made} - {buried.span_id}
    assert type(to.deliver(payload([span("x", 1, attributes=odd)]), 1)).__name__ == outcome
    pipeline.shutdown()


def test_deliver_unusual_attributes_inserts_all_rows(engine: Any) -> None:
    pipeline = pipeline_with({"one": destination(engine, create_table=True)}, None)
    odd: list[dict[str, Any]] = [
        {semconv.USAGE_INPUT_TOKENS: "12"},
        {semconv.SESSION_ID: ["a", "b"], semconv.USER_ID: 5},
        {semconv.USAGE_INPUT_TOKENS: 49 * 10**17, semconv.USAGE_OUTPUT_TOKENS: 49 * 10**17},
        {semconv.USAGE_INPUT_TOKENS: -(2**70), semconv.USAGE_COST: float("nan")},
    ]
    with tracing(pipeline) as tracer, pipeline.span_queue._processing:
        made = [call(tracer, 3, **attributes)[1] for attributes in odd]
        tracer.start_span("late").end(end_time=2**63)
    report = pipeline.flush(60)
    assert report, str(report)
    found = {row["SPAN_ID"]: row for row in rows(engine)}
    assert len(found) == 5
    assert [found[one]["PROMPT_TOKENS"] for one in made] == [12, 3, 49 * 10**17, 0]
    assert [found[one]["TOTAL_TOKENS"] for one in made] == [12, 3, 0, 0]
    assert (found[made[1]]["SESSION_ID"], found[made[1]]["USER_ID"]) == ('["a","b"]', "5")
    pipeline.shutdown()


def test_deliver_to_table_name_with_quotes_succeeds(engine: Any) -> None:
    to = destination(engine, table="odd `name` \\", create_table=True)
    assert to.deliver(payload(), 60) == Delivered()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", Address("localhost", 8123, is_secure=False)),
        ("abc.clickhouse.cloud", Address("abc.clickhouse.cloud", 8443, is_secure=True)),
        ("abc.clickhouse.cloud:443", Address("abc.clickhouse.cloud", 443, is_secure=True)),
        ("db.internal:8123", Address("db.internal", 8123, is_secure=False)),
        ("http://db.internal", Address("db.internal", 8123, is_secure=False)),
        ("https://localhost:9443/", Address("localhost", 9443, is_secure=True)),
    ],
)
def test_config_address_from_host(host: str, address: Address) -> None:
    assert ClickHouseConfig(type="clickhouse", host=host).address == address


def test_deliver_to_unreachable_server_is_retried() -> None:
    config = ClickHouseConfig(type="clickhouse", host="http://127.0.0.1:9", timeout=60)
    to = clickhouse.create(config, ENCODER)
    assert to.deliver(payload(), 60) == Retry("ClickHouse 127.0.0.1: OperationalError")
    to.close()


class _DenyingHandler(BaseHTTPRequestHandler):
    received: ClassVar[list[dict[str, str]]] = []

    def do_POST(self) -> None:
        self.received.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(403)
        self.send_header("X-ClickHouse-Exception-Code", "516")
        self.end_headers()
        self.wfile.write(b"Code: 516. DB::Exception: wrong password. (AUTHENTICATION_FAILED)")

    do_GET = do_POST  # noqa: N815 - name of the base class

    def log_message(self, *_: object) -> None:
        """Do not log."""


def test_deliver_with_wrong_password_sends_headers_and_is_retried(caplog: pytest.LogCaptureFixture) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _DenyingHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fields = {
        "host": f"http://127.0.0.1:{server.server_port}",
        "username": "writer",
        "password": CANARY,
        "headers": {"X-Team": "search"},
    }
    to = clickhouse.create(ClickHouseConfig.model_validate({"type": "clickhouse", **fields}), ENCODER)
    outcome = to.deliver(payload(), 60)
    server.shutdown()
    server.server_close()
    assert outcome == Retry("ClickHouse 127.0.0.1: error 516 AUTHENTICATION_FAILED")
    assert _DenyingHandler.received[0]["authorization"].startswith("Basic ")
    assert _DenyingHandler.received[0]["x-team"] == "search"
    assert CANARY not in caplog.text + repr(to.__dict__)


def test_row_values_match_the_golden_file() -> None:
    context = {"entity_id": "local", "organization_id": None}

    def row(one: SpanData) -> dict[str, Any]:
        return {name: column.value(one, context) for name, column in COLUMNS.items()}

    assert_golden("clickhouse", [row(one) for one in conversation()])
