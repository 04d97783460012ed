"""The BigQuery destination: with bqemulator (`servers/build bqemulator`), and with a stub for the answers it never gives.

The stub speaks the documented wire: a table's schema, ``testIamPermissions``, and ``insertAll`` whose answer of HTTP 200
has the errors of rows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.destinations.configs import CANARY
from tests.destinations.conftest import Explained
from tests.destinations.golden import assert_golden
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import LEAKS, conversation, records, span
from tests.e2e.servers import Server, binary
from tests.encoding.test_conventions import TOOLS
from tests.export.pipelines import pipeline_with
from tests.ports import own_port

from spancast.destinations import bigquery, partial_delivery
from spancast.destinations.bigquery import BigQueryConfig, BigQueryDestination
from spancast.destinations.protocol import Delivered, Failed, PartlyDelivered, Rejected, Retry
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.redaction import Redaction
from spancast.errors import ConfigError
from spancast.testing import check_destination

pytest.importorskip("google.auth", reason="NO BIGQUERY: google-auth is not installed")

Reply = tuple[int, Any]
INSERTED: Reply = (200, {"kind": "bigquery#tableDataInsertAllResponse"})
COLUMNS = [
    {"name": name, "type": "STRING" if kind == "ARRAY<STRING>" else kind}
    for name, (kind, _) in bigquery._column_types().items()
]
RIGHTS: Reply = (200, {"permissions": ["bigquery.tables.updateData"]})


class Stub(ThreadingHTTPServer):
    """``replies`` are those to inserts, in order; ``requests`` are (method, path, body)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, Any]] = []
        self.replies: list[Reply] = [INSERTED]
        self.table: Reply = (200, {"schema": {"fields": [*COLUMNS, {"name": "mine", "type": "STRING"}]}})
        self.rights = RIGHTS
        self.created: Reply = (200, {})
        self.tokens = 0

    @property
    def inserted(self) -> list[list[str]]:
        return [[row["insertId"] for row in body["rows"]] for _, path, body in self.requests if "insertAll" in path]


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/token":
            self.server.tokens += 1
            self.answer(200, {"access_token": f"{CANARY}-token", "token_type": "Bearer", "expires_in": 3600})
            return
        assert self.headers["Authorization"] == f"Bearer {CANARY}-token"
        self.server.requests.append((self.command, self.path, json.loads(text) if text else None))
        if self.path.endswith("/insertAll"):
            replies = self.server.replies
            self.answer(*(replies.pop(0) if len(replies) > 1 else replies[0]))
        elif self.path.endswith(":testIamPermissions"):
            self.answer(*self.server.rights)
        else:
            self.answer(*(self.server.created if self.command == "POST" else self.server.table))

    do_GET = do_POST  # noqa: N815 - the names of http.server

    def answer(self, status: int, answer: Any) -> None:
        encoded = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_delivery, "_PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def account() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return {
        "type": "service_account", "client_email": "writer@p.iam.gserviceaccount.com",
        "private_key": key.private_bytes(encoding, form, serialization.NoEncryption()).decode(),
    }  # fmt: skip


Make = Callable[..., BigQueryDestination]


@pytest.fixture
def make(stub: Stub, account: dict[str, str]) -> Make:
    url = f"http://127.0.0.1:{stub.server_port}"

    def destination(**others: Any) -> BigQueryDestination:
        key = json.dumps({**account, "token_uri": f"{url}/token"})
        fields = {"type": "bigquery", "projectId": "p-1", "serviceAccountKey": key, "timeout": 60, "base_url": url}
        return bigquery.create(BigQueryConfig.model_validate({**fields, **others}), ENCODER)

    return destination


def test_batch_is_one_request_of_rows_with_ids(stub: Stub, make: Make) -> None:
    to = make(entity_id="team")
    assert [to.deliver(payload(), 60), to.deliver(payload(conversation()[:1]), 60)] == [Delivered(), Delivered()]
    to.close()
    table = "/bigquery/v2/projects/p-1/datasets/openrouter/tables/openrouter_traces"
    assert [(method, path) for method, path, _ in stub.requests] == [
        ("GET", table), ("POST", f"{table}/insertAll"), ("POST", f"{table}/insertAll"),
    ]  # fmt: skip
    assert stub.tokens == 1
    body = stub.requests[1][2]
    assert (body["skipInvalidRows"], body["ignoreUnknownValues"]) == (True, True)
    assert [row["insertId"][-2:] for row in body["rows"]] == ["03", "04", "02", "01"]
    assert len(body["rows"][0]["insertId"]) == 48
    row = body["rows"][0]["json"]
    assert list(row) == [column["name"] for column in COLUMNS]
    assert (row["prompt_tokens"], row["total_cost"], row["entity_id"], row["tags"]) == (100, 0.00075, "team", [])
    assert row["timestamp"] == "2026-09-29T12:00:00.010Z"
    # Columns of type JSON take text.
    assert json.loads(row["input"])["messages"][-1] == {"role": "user", "content": "Process this order..."}


def test_connection_test_reads_the_table_and_the_right(stub: Stub, make: Make) -> None:
    to = make()
    assert to.test_connection(60) == Delivered()
    stub.rights = (200, {})
    assert to.test_connection(60) == Retry("BigQuery: no right to insert into p-1.openrouter.openrouter_traces")
    assert not stub.inserted
    to.close()


def test_rejected_rows_of_an_answer_200_are_dead_letters(stub: Stub, make: Make) -> None:
    error = {"reason": "invalid", "location": "nope", "debugInfo": "", "message": "no such field: nope."}
    stub.replies = [(200, {"insertErrors": [{"index": 1, "errors": [error]}]})]
    to = make()
    spans = conversation()
    outcome = to.deliver(payload(spans), 60)
    named = frozenset({(spans[1].trace_id, spans[1].span_id)})
    assert outcome == Delivered(1, "BigQuery: invalid at nope: no such field: nope.", named)
    assert len(stub.inserted) == 1
    to.close()


def test_rows_that_failed_for_now_are_sent_again_alone(stub: Stub, make: Make) -> None:
    busy = {"insertErrors": [{"index": number, "errors": [{"reason": "backendError"}]} for number in (0, 2)]}
    stub.replies = [(200, busy), INSERTED]
    to = make()
    assert to.deliver(payload(), 60) == Delivered()
    first, second = stub.inserted
    assert second == [first[0], first[2]]
    to.close()


def test_rows_that_still_fail_are_all_that_a_retry_sends(stub: Stub, make: Make) -> None:
    stub.replies = [(200, {"insertErrors": [{"index": 0, "errors": [{"reason": "quotaExceeded", "message": "wait"}]}]})]
    to = make()
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, PartlyDelivered)
    assert outcome.rest == Retry("BigQuery: 1 of 4 rows were not taken: quotaExceeded: wait")
    assert outcome.delivered == {(one.trace_id, one.span_id) for one in payload().spans[1:]}
    assert [len(ids) for ids in stub.inserted] == [4, 1, 1]
    to.close()


def test_unreadable_answer_is_a_failure(stub: Stub, make: Make) -> None:
    """As one that is longer than the client reads: every row of a large batch has an error."""
    error = {"reason": "invalid", "message": "x" * 200}
    stub.replies = [(200, {"insertErrors": [{"index": n, "errors": [error]} for n in range(500)]})]
    to = make()
    assert isinstance(to.deliver(payload(), 60), Failed)
    to.close()


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        ((404, {"error": {"message": "Not found: Table"}}), Rejected, "no table p-1.openrouter.openrouter_traces; create it"),
        ((403, {"error": {"message": "Access Denied"}}), Retry, "403"),
        ((403, {"error": {"errors": [{"reason": "rateLimitExceeded"}]}}), Retry, "rateLimitExceeded"),
        ((503, {}), Retry, "503"),
        ((400, {"error": {"message": "bad"}}), Rejected, "bad"),
        ((413, {}), Rejected, "413"),
    ],
)  # fmt: skip
def test_outcome_of_a_failed_request(reply: Reply, kind: type, text: str, stub: Stub, make: Make) -> None:
    stub.replies = [reply]
    to = make()
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, kind)
    assert text in outcome.reason
    to.close()


def test_table_that_we_create_may_be_missing_for_a_while(stub: Stub, make: Make) -> None:
    stub.replies = [(404, {}), INSERTED]
    to = make(create_table=True)
    assert isinstance(to.deliver(payload(), 60), Retry)
    stub.created = (409, {"error": {"message": "Already Exists"}})
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    method, path, body = stub.requests[0]
    assert (method, path) == ("POST", "/bigquery/v2/projects/p-1/datasets/openrouter/tables")
    assert body["schema"]["fields"][0] == {"name": "trace_id", "type": "STRING", "mode": "REQUIRED"}
    assert {"name": "tags", "type": "STRING", "mode": "REPEATED"} in body["schema"]["fields"]


def test_only_columns_of_the_table_are_written(stub: Stub, make: Make) -> None:
    stub.table = (200, {"schema": {"fields": [{"name": "TRACE_ID"}, {"name": "mine"}]}})
    to = make()
    assert to.deliver(payload(), 60) == Delivered()
    assert stub.requests[1][2]["rows"][0]["json"] == {"TRACE_ID": "order_processing_001"}
    to.close()


def test_column_without_null_gets_zero(stub: Stub, make: Make) -> None:
    """OpenRouter's own table has such columns of tokens; a group span has no tokens."""
    names = ["span_id", "prompt_tokens", "total_cost", "model", "input", "cached_tokens"]
    stub.table = (200, {"schema": {"fields": [
        {"name": name, "mode": "NULLABLE" if name == "cached_tokens" else "REQUIRED"} for name in names
    ]}})  # fmt: skip
    to = make()
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    assert stub.requests[1][2]["rows"][3]["json"] == {
        "span_id": "0000000000000001", "prompt_tokens": 0, "total_cost": 0.0, "model": "", "input": "{}",
        "cached_tokens": None,
    }  # fmt: skip


def test_odd_texts_do_not_block_a_batch(stub: Stub, make: Make) -> None:
    to = make()
    odd = span(
        "odd \x00 \ud800", 1, attributes={"gen_ai.request.model": "m\x00", "spancast.request.text": "\ud800\x00"}
    )
    assert to.deliver(payload([odd]), 60) == Delivered()
    row = stub.requests[1][2]["rows"][0]["json"]
    assert row["model"] == "m\ufffd"
    assert json.loads(row["attributes"])["spancast.request.text"] == "?\ufffd"
    to.close()


def test_credentials_are_in_no_text(stub: Stub, make: Make) -> None:
    to = make()
    stub.replies = [(401, {"error": {"message": f"bad token {CANARY}-token"}})]
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, Retry)
    assert CANARY not in f"{outcome} {to._config!r} {to!r}"
    to.close()


def test_key_that_cannot_be_used_names_the_field() -> None:
    with pytest.raises(ValueError, match="must be the JSON text of a service account key"):
        BigQueryConfig.model_validate({"type": "bigquery", "project": "p", "service_account_key": "/a/file.json"})
    key = json.dumps({"client_email": "a", "private_key": f"{CANARY}", "token_uri": "http://t.test"})
    config = BigQueryConfig.model_validate({"type": "bigquery", "project": "p", "service_account_key": key})
    with pytest.raises(ConfigError, match="service_account_key: the private key is invalid") as raised:
        bigquery.create(config, ENCODER)
    assert CANARY not in str(raised.value)


def test_request_matches_the_golden_file(stub: Stub, make: Make) -> None:
    to = make()
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    [body] = [body for _, path, body in stub.requests if path.endswith("/insertAll")]
    assert_golden("bigquery", body)


# The emulator.


class Emulator(Server):
    def __init__(self) -> None:
        rest, grpc = own_port(), own_port()
        self.url = f"http://127.0.0.1:{rest}"
        super().__init__(
            [str(binary("bqemulator")), "start", "--rest-port", str(rest), "--grpc-port", str(grpc)],
            {},
            f"{self.url}/bigquery/v2/projects/p-1/datasets",
        )


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with Emulator() as running:
        yield running.url


def call(url: str, method: str, path: str, body: Any = None) -> Any:
    import urllib.request

    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{url}/bigquery/v2/projects/p-1{path}", data, {"content-type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def test_emulator_takes_the_table_and_the_rows(emulator: str, make: Make) -> None:
    call(emulator, "POST", "/datasets", {"datasetReference": {"projectId": "p-1", "datasetId": "openrouter"}})
    to = make(base_url=emulator, create_table=True)
    private = SpanEncoder(redaction=Redaction(is_private=True, key="p"), convention="gen_ai")
    leaking = records([span("call", 9, attributes={**TOOLS, **LEAKS}, status="error", status_message="canary")])
    assert isinstance(to.test_connection(60), Delivered)
    assert [to.deliver(payload(), 60), to.deliver(private.payload(leaking), 60)] == [Delivered(), Delivered()]
    to.close()
    query = "SELECT trace_id, span_id, prompt_tokens, total_cost, tags, input FROM `openrouter.openrouter_traces` ORDER BY span_id"
    found = call(emulator, "POST", "/queries", {"query": query, "useLegacySql": False})
    rows = [[cell["v"] for cell in row["f"]] for row in found["rows"]]
    assert len(rows) == 5
    assert rows[2][:4] == ["order_processing_001", "0000000000000003", "100", "0.00075"]
    assert "canary" not in json.dumps(
        call(
            emulator,
            "POST",
            "/queries",
            {"query": "SELECT * FROM `openrouter.openrouter_traces`", "useLegacySql": False},
        )
    )


def test_batch_of_the_pipeline_arrives(stub: Stub, make: Make) -> None:
    pipeline = pipeline_with({"one": make()}, None)
    pipeline.spool.put(records([span("a", number + 1) for number in range(600)]), {})
    pipeline._start()
    report = pipeline.flush(60).destinations["one"]
    assert (report.delivered, report.queued) == (600, 0)
    assert [len(ids) for ids in stub.inserted] == [500, 100]
    pipeline.shutdown()


def test_contract(stub: Stub, account: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{stub.server_port}"
    key = json.dumps({**account, "token_uri": f"{url}/token"})
    entry = {"type": "bigquery", "project": "p-1", "service_account_key": key, "base_url": url, "timeout": 60}
    check_destination(
        lambda: entry,
        unreachable=lambda: {**entry, "base_url": f"http://127.0.0.1:{own_port()}"},
        secrets=[f"{CANARY}-token", account["private_key"][100:200]],
    )
    assert len({insert_id for ids in stub.inserted for insert_id in ids}) == 6


def test_explain_follows_a_span(stub: Stub, account: dict[str, str], explained: Explained) -> None:
    url = f"http://127.0.0.1:{stub.server_port}"
    key = json.dumps({**account, "token_uri": f"{url}/token"})
    entry = {"type": "bigquery", "project": "p-1", "service_account_key": key, "base_url": url, "timeout": 60}
    assert explained(entry)[0] == "delivered"
    refused = {"index": 0, "errors": [{"reason": "invalid", "location": "tags", "message": "no such field"}]}
    stub.replies = [(200, {"insertErrors": [refused]})]
    state, reason = explained(entry)
    assert (state, "no such field" in reason) == ("dead_lettered", True)
    stub.replies = [(503, {"error": {"message": "not now"}})]
    state, reason = explained(entry, is_away=True)
    assert (state, "not now" in reason) == ("queued", True)
