"""The Redis destination with a real server: Debian's redis-server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.configs import CANARY
from tests.destinations.conftest import Explained
from tests.destinations.golden import assert_golden
from tests.destinations.payloads import ENCODER, payload
from tests.destinations.spans import LEAKS, conversation, records, span
from tests.e2e.servers import poll
from tests.encoding.test_conventions import TOOLS
from tests.ports import own_port

from spancast.destinations import partial_delivery, redis_streams
from spancast.destinations.protocol import Delivered, Failed, Rejected, Retry
from spancast.destinations.redis_streams import RedisConfig, RedisDestination
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.redaction import Redaction
from spancast.testing import check_destination

redis = pytest.importorskip("redis", reason="NO REDIS: redis is not installed")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_delivery, "_PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    program = shutil.which("redis-server")
    if program is None:
        message = "NO REDIS SERVER: run `apt-get install redis-server`"
        if os.environ.get("SPANCAST_REQUIRE_SERVERS"):
            pytest.fail(message)
        pytest.skip(message)
    number, folder = own_port(), tmp_path_factory.mktemp("redis")
    options = ["--port", str(number), "--save", "", "--bind", "127.0.0.1", "--dir", str(folder)]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)

    def answers() -> bool | None:
        try:
            with redis.Redis(port=number) as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return None

    poll(answers, "redis-server")
    yield number
    process.terminate()
    process.wait(30)


@pytest.fixture
def engine(port: int) -> Iterator[Any]:
    with redis.Redis(port=port) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.flushall()
        client.execute_command("ACL", "DELUSER", "reader", "writer")


def destination(port: int, url: str = "redis://127.0.0.1:{}", **others: Any) -> RedisDestination:
    fields = {"type": "redis", "url": url.format(port), "timeout": 60, **others}
    return redis_streams.create(RedisConfig.model_validate(fields), ENCODER)


def entries(engine: Any, stream: str = "spancast:spans") -> list[dict[str, Any]]:
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in engine.xrange(stream)]


def test_entry_has_the_ids_and_the_row(port: int, engine: Any) -> None:
    to = destination(port)
    assert to.test_connection(60) == Delivered()
    assert entries(engine) == [], "a connection test adds nothing"
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    found = entries(engine)
    assert [entry["span_id"] for entry in found] == [one.span_id for one in conversation()]
    assert set(found[0]) == {"trace_id", "span_id", "span"}
    assert found[0]["trace_id"] == conversation()[0].trace_id
    row = json.loads(found[0]["span"])
    assert (row["prompt_tokens"], row["total_cost"], row["session_id"]) == (100, 0.00075, "session_abc")


def test_entries_match_the_golden_file(port: int, engine: Any) -> None:
    to = destination(port)
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    assert_golden("redis", [{**entry, "span": json.loads(entry["span"])} for entry in entries(engine)])


def test_stream_is_trimmed(port: int, engine: Any) -> None:
    to = destination(port, max_length=100, stream="short")
    for start in range(0, 600, 200):
        assert to.deliver(payload([span("a", start + number + 1) for number in range(200)]), 60) == Delivered()
    to.close()
    # Whole nodes of 100 entries are removed.
    assert 100 <= engine.xlen("short") < 300


def test_key_of_another_type_is_rejected_with_the_servers_words(port: int, engine: Any) -> None:
    engine.set("spancast:spans", "text")
    to = destination(port)
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, Rejected)
    assert "WRONGTYPE Operation against a key" in outcome.reason
    assert to.test_connection(60) == Rejected(f"Redis 127.0.0.1:{port}, stream spancast:spans: the key is a string")
    to.close()


def test_full_memory_is_retried_and_nothing_is_added_twice(port: int, engine: Any) -> None:
    engine.config_set("maxmemory", 1)
    to = destination(port)
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, Retry)
    assert "OutOfMemoryError" in outcome.reason
    engine.config_set("maxmemory", 0)
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    assert len(entries(engine)) == 4


def test_server_without_enough_replicas_is_retried_and_an_unknown_error_blames_no_span(port: int, engine: Any) -> None:
    to = destination(port)
    engine.config_set("min-replicas-to-write", 1)
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, Retry)
    assert "NOREPLICAS" in outcome.reason
    engine.config_set("min-replicas-to-write", 0)
    to._client.pipeline = lambda **_: Failing()
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, Failed)
    assert "ERR something new" in outcome.reason
    to.close()


class Failing:
    """A pipeline with answers of a later server."""

    def xadd(self, *_: Any, **__: Any) -> None: ...

    def execute(self, **_: Any) -> list[Exception]:
        return [redis.ResponseError("ERR something new")] * 4


def test_missing_right_and_wrong_password_are_retried(port: int, engine: Any) -> None:
    engine.execute_command("ACL", "SETUSER", "reader", "on", f">{CANARY}", "~*", "+@read", "+ping")
    reader = destination(port, f"redis://reader:{CANARY}@127.0.0.1:{{}}")
    outcome = reader.deliver(payload(), 60)
    assert isinstance(outcome, Retry)
    assert "NoPermissionError" in outcome.reason
    reader.close()
    wrong = destination(port, f"redis://reader:{CANARY}-wrong@127.0.0.1:{{}}")
    refused = wrong.test_connection(60)
    assert isinstance(refused, Retry)
    assert "AuthenticationError" in refused.reason
    assert CANARY not in f"{outcome} {refused} {wrong._config!r}"
    wrong.close()


def test_connection_that_was_cut_is_opened_again(port: int, engine: Any) -> None:
    to = destination(port)
    assert to.deliver(payload(conversation()[:1]), 60) == Delivered()
    engine.client_kill_filter(_type="normal", skipme=True)
    outcome = to.deliver(payload(conversation()[1:]), 60)
    if isinstance(outcome, Retry):
        assert to.deliver(payload(conversation()[1:]), 60) == Delivered()
    to.close()
    assert len(entries(engine)) == 4


def test_odd_texts_and_privacy_mode(port: int, engine: Any) -> None:
    private = SpanEncoder(redaction=Redaction(is_private=True, key="p"), convention="gen_ai")
    leaking = records([span("call", 9, attributes={**TOOLS, **LEAKS}, status="error", status_message="canary")])
    to = destination(port)
    assert to.deliver(private.payload(leaking), 60) == Delivered()
    assert to.deliver(payload([span("odd", 1, attributes={"gen_ai.request.model": "m\x00\ud800"})]), 60) == Delivered()
    to.close()
    called, odd = entries(engine)
    assert "gpt-4o" in called["span"]
    assert "canary" not in called["span"]
    assert json.loads(odd["span"])["model"] == "m\ufffd?"


def test_forked_child_opens_its_own_connection(port: int, engine: Any) -> None:
    to = destination(port)
    assert to.deliver(payload(conversation()[:1]), 60) == Delivered()
    child = os.fork()
    if child == 0:
        os._exit(0 if to.deliver(payload(conversation()[1:]), 60) == Delivered() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert to.deliver(payload(conversation()[:1]), 60) == Delivered(), "the parent's connection still works"
    to.close()
    assert len(entries(engine)) == 5


@pytest.mark.parametrize("address", ["http://h", "redis://", "redis://h:port", "h:6379", "unix://"])
def test_other_addresses_are_rejected(address: str) -> None:
    with pytest.raises(ValueError, match="must be an address"):
        RedisConfig.model_validate({"type": "redis", "url": address})


def test_contract(port: int, engine: Any, tmp_path: Path) -> None:
    engine.execute_command("ACL", "SETUSER", "writer", "on", f">{CANARY}", "~*", "+@all")
    check_destination(
        lambda: {"type": "redis", "url": f"redis://writer:{CANARY}@127.0.0.1:{port}"},
        unreachable=lambda: {"type": "redis", "url": f"redis://writer:{CANARY}@127.0.0.1:{own_port()}", "timeout": 1},
        secrets=[CANARY],
    )
    assert len(entries(engine)) == 6


def test_explain_follows_a_span(port: int, engine: Any, explained: Explained) -> None:
    entry = {"type": "redis", "url": f"redis://127.0.0.1:{port}", "timeout": 60}
    assert explained(entry)[0] == "delivered"
    engine.set("text", "in the way")
    state, reason = explained({**entry, "stream": "text"})
    assert (state, "WRONGTYPE Operation against a key" in reason) == ("dead_lettered", True)
    state, reason = explained({**entry, "url": f"redis://127.0.0.1:{own_port()}", "timeout": 1}, is_away=True)
    assert (state, "ConnectionError" in reason) == ("queued", True)
    assert len(entries(engine)) == 1
