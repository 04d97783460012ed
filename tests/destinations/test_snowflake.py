"""The Snowflake destination, with a stub of its SQL API as the documentation has it, and with fakesnow behind this API."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.destinations.configs import CANARY
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import conversation, span
from tests.e2e.servers import ROOT, Server, binary
from tests.ports import own_port

from spancast.destinations import snowflake
from spancast.destinations.protocol import Delivered, Rejected, Retry
from spancast.destinations.snowflake import SnowflakeConfig, SnowflakeDestination
from spancast.destinations.sql_rows import COLUMNS

Reply = tuple[int, dict[str, Any]]
DONE: Reply = (200, {"code": "090001", "statementHandle": "01b-1", "sqlState": "00000", "data": []})
RUNNING: Reply = (202, {"code": "333334", "statementHandle": "01b-1", "statementStatusUrl": "/api/v2/statements/01b-1"})
TABLE: Reply = (
    200,
    {"data": [[name, column.snowflake.removesuffix(" NOT NULL"), "COLUMN", "Y"] for name, column in COLUMNS.items()]},
)


class Stub(ThreadingHTTPServer):
    """``replies`` are those to inserts, in order; ``requests`` are (method, path, body)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.replies: list[Reply] = [DONE]
        self.table: Callable[[], Reply] = lambda: TABLE

    @property
    def inserts(self) -> list[tuple[str, dict[str, Any]]]:
        return [(path, body) for method, path, body in self.requests if "INSERT" in body.get("statement", "")]


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        assert self.headers["Authorization"] == f"Bearer {CANARY}"
        assert self.headers["X-Snowflake-Authorization-Token-Type"] == "PROGRAMMATIC_ACCESS_TOKEN"
        assert self.headers["User-Agent"]
        text = self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.loads(text) if text else {}
        self.server.requests.append((self.command, self.path, body))
        if body.get("statement", "").startswith(("DESCRIBE", "CREATE")):
            status, answer = self.server.table() if body["statement"].startswith("DESCRIBE") else DONE
        else:
            status, answer = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        encoded = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_POST  # noqa: N815 - the names of http.server

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def destination(stub: Stub, **others: Any) -> SnowflakeDestination:
    fields = {"type": "snowflake", "account": "org-account", "token": CANARY, "timeout": 60, **others}
    url = f"http://127.0.0.1:{stub.server_port}"
    return snowflake.create(SnowflakeConfig.model_validate({**fields, "base_url": url}), ENCODER)


def test_batch_is_one_statement_with_one_bind(stub: Stub) -> None:
    to = destination(stub, entity_id="team")
    assert [to.deliver(payload(), 60), to.deliver(payload(conversation()[:1]), 60)] == [Delivered(), Delivered()]
    to.close()
    assert [method for method, _, _ in stub.requests] == ["POST"] * 3
    (path, body), (other, _) = stub.inserts
    assert path.startswith("/api/v2/statements?requestId=")
    assert path.endswith("&retry=true")
    assert other != path
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    assert body["statement"].startswith(f'INSERT INTO OPENROUTER_TRACES ({names}) SELECT value:"TRACE_ID"::VARCHAR, ')
    assert body["statement"].endswith("FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?)))")
    assert 'value:"PROMPT_TOKENS"::NUMBER(18,0)' in body["statement"]
    assert 'value:"TAGS"::ARRAY, value:"ATTRIBUTES", ' in body["statement"]
    assert (body["database"], body["schema"], body["warehouse"]) == ("SNOWFLAKE_LEARNING_DB", "PUBLIC", "COMPUTE_WH")
    rows = json.loads(body["bindings"]["1"]["value"])
    assert body["bindings"]["1"]["type"] == "TEXT"
    assert len(rows) == 4
    call = next(row for row in rows if row["SPAN_ID"].endswith("3"))
    assert (call["PROMPT_TOKENS"], call["TOTAL_COST"], call["ENTITY_ID"]) == (100, 0.00075, "team")
    assert call["INPUT"]["messages"][-1] == {"role": "user", "content": "Process this order..."}


def test_same_batch_has_the_same_request_id(stub: Stub) -> None:
    stub.replies = [(503, {}), DONE]
    to = destination(stub)
    assert isinstance(to.deliver(payload(), 60), Retry)
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    assert len({path for path, _ in stub.inserts}) == 1


def test_running_statement_is_polled(stub: Stub) -> None:
    stub.replies = [RUNNING, RUNNING, DONE]
    to = destination(stub)
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    assert [path for method, path, _ in stub.requests if method == "GET"] == ["/api/v2/statements/01b-1"] * 2


def test_statement_that_runs_longer_than_the_limit_is_retried(stub: Stub) -> None:
    stub.replies = [RUNNING]
    to = destination(stub)
    assert to.deliver(payload(), 0.4) == Retry("Snowflake: the statement is still running")
    to.close()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (
            "002003",
            Rejected("Snowflake: error 002003 (42S02) says canary; create OPENROUTER_TRACES, or set create_table"),
        ),
        ("000904", Retry("Snowflake: error 000904 (42S02) says canary")),
        ("100078", Rejected("Snowflake: error 100078 (42S02)", invalid_content=True)),
    ],
)
def test_outcome_of_a_failed_statement(code: str, outcome: object, stub: Stub) -> None:
    stub.replies = [(422, {"code": code, "message": "says canary", "sqlState": "42S02"})]
    to = destination(stub)
    assert to.deliver(payload(), 60) == outcome
    to.close()


def test_missing_right_is_retried_with_the_servers_words(stub: Stub) -> None:
    text = "Insufficient privileges to operate on table 'OPENROUTER_TRACES'"
    stub.replies = [(422, {"code": "003001", "message": text, "sqlState": "42501"})]
    to = destination(stub)
    assert to.deliver(payload(), 60) == Retry(f"Snowflake: error 003001 (42501) {text}")
    to.close()


def test_wrong_token_is_retried_and_hidden(stub: Stub) -> None:
    stub.table = lambda: (401, {"code": "390303", "message": f"Invalid token {CANARY}"})
    to = destination(stub)
    outcome = to.test_connection(60)
    to.close()
    assert isinstance(outcome, Retry)
    assert "390303" in outcome.reason
    assert CANARY not in outcome.reason + repr(to._config)


def test_column_without_null_gets_zero(stub: Stub) -> None:
    columns = [
        ["SPAN_ID", "VARCHAR", "COLUMN", "N"],
        ["PROMPT_TOKENS", "NUMBER", "COLUMN", "N"],
        ["MODEL", "VARCHAR", "COLUMN", "Y"],
    ]
    stub.table = lambda: (200, {"data": columns})
    to = destination(stub)
    assert to.deliver(payload(conversation()[-1:]), 60) == Delivered()
    to.close()
    [(_, body)] = stub.inserts
    assert json.loads(body["bindings"]["1"]["value"]) == [
        {"SPAN_ID": "0000000000000001", "PROMPT_TOKENS": 0, "MODEL": None}
    ]


def test_only_columns_of_the_table_are_written(stub: Stub) -> None:
    columns = [["trace_id", "VARCHAR(128)"], ["MINE", "VARCHAR"], ["CACHE_WRITE_TOKENS", "NUMBER(18,0)"]]
    stub.table = lambda: (200, {"data": columns})
    to = destination(stub, table="my table", shouldIncludeCacheWriteTokens=False, create_table=True, role="WRITER")
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    [(_, body)] = stub.inserts
    assert body["statement"].startswith(
        'INSERT INTO "my table" ("trace_id") SELECT value:"trace_id"::VARCHAR(128) FROM'
    )
    assert set(json.loads(body["bindings"]["1"]["value"])[0]) == {"trace_id"}
    assert body["role"] == "WRITER"
    assert stub.requests[0][2]["statement"] == snowflake.ddl("my table")


def test_account_is_checked() -> None:
    with pytest.raises(ValueError, match="must be an account identifier"):
        SnowflakeConfig.model_validate({"type": "snowflake", "account": "https://a", "token": "t"})


# fakesnow, which executes Snowflake's SQL, behind the same API (`servers/fakesnow/server.py`).


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    python, port = binary("fakesnow").parent / "venv" / "bin" / "python", own_port()
    url = f"http://127.0.0.1:{port}"
    with Server([str(python), str(ROOT / "servers" / "fakesnow" / "server.py"), str(port)], {}, url):
        yield url


def test_emulator_executes_the_statements(emulator: str) -> None:
    fields = {"type": "snowflake", "account": "org-account", "token": CANARY, "timeout": 60, "base_url": emulator}
    missing = snowflake.create(SnowflakeConfig.model_validate(fields), ENCODER)
    outcome = missing.deliver(payload(), 60)
    assert isinstance(outcome, Rejected)
    assert "error 002003 (42S02)" in outcome.reason
    missing.close()
    to = snowflake.create(SnowflakeConfig.model_validate({**fields, "create_table": True}), ENCODER)
    assert to.test_connection(60) == Delivered()
    odd = span("odd", 9, attributes={"gen_ai.request.model": "m\x00\ud800", "trace.metadata.tags": ["a", "b'\"?"]})
    assert to.deliver(payload([*conversation(), odd]), 60) == Delivered()
    columns = "SPAN_ID, PROMPT_TOKENS, TOTAL_COST, START_TIME, TAGS, INPUT, MODEL"
    outcome, rows = to._execute(f"SELECT {columns} FROM OPENROUTER_TRACES ORDER BY SPAN_ID", time.monotonic() + 60)
    to.close()
    assert outcome == Delivered()
    assert len(rows) == 5
    assert rows[2][:5] == ["0000000000000003", "100", "0.000750000", "2026-09-29 12:00:00.010000", "[]"]
    assert json.loads(rows[2][5])["messages"][-1] == {"role": "user", "content": "Process this order..."}
    assert json.loads(rows[4][4]) == ["a", "b'\"?"]
    assert rows[4][6] == "m\ufffd?"
