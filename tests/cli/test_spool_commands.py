"""``spancast spool`` and its subcommands ``flush``, ``requeue``, ``replay`` and ``purge``."""

from __future__ import annotations

import io
import math
import re
import sqlite3
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.trace import Tracer
from tests.cli.past import AWAY, BLOCKED_S, Command, configure, delivered, file, pipeline, three
from tests.destinations.otlp_receiver import OtlpReceiver, ok, status
from tests.destinations.spans import records, span
from tests.export.pipelines import call, otlp, pipeline_to

from spancast.cli import formatting, main
from spancast.export.spool.directory import SPOOL_FILE
from spancast.export.spool.disk import SqliteSpool


def opened() -> SqliteSpool:
    return SqliteSpool(Path("queue") / SPOOL_FILE, max_bytes=1 << 28, max_age_s=math.inf)


class TestOverview:
    def test_spool_shows_counts_per_destination(self, run: Command, blocked: Path) -> None:
        pipeline({"here": file("here"), "away": AWAY}, three, BLOCKED_S)
        lines = run("spool").splitlines()
        assert lines[0].endswith("queue/spool.sqlite3")
        assert lines[1].startswith("3 spans stored, the oldest ")
        rows = {line.split()[0]: line.split()[1:] for line in lines[4:6]}
        assert rows["here"][:4] == ["0", "0", "0", "3"]
        assert rows["away"] == ["3", "0", "0", "0", "never"]
        note = next(line for line in lines if line.startswith("away: "))
        assert re.match(r"away: \d\.\d KiB queued, \d+ failed attempts?, ", note)
        text = " ".join(" ".join(lines).split())
        assert "Not a directory" in text or "File exists" in text

    def test_spool_json_has_every_count(self, run: Command, blocked: Path) -> None:
        pipeline({"here": file("here"), "away": AWAY}, three, BLOCKED_S)
        data = run.data("spool")
        assert (data["spans"], data["error"], data["dead_letters"]) == (3, "", [])
        assert data["destinations"]["here"]["delivered"] == data["destinations"]["away"]["queued"] == 3
        assert data["destinations"]["away"]["attempts"] > 0
        assert data["destinations"]["away"]["next_attempt"].endswith("Z")
        assert data["destinations"]["here"]["last_error"] == ""

    def test_spool_lists_dead_letters_with_reason(self, run: Command, receiver: OtlpReceiver) -> None:
        receiver.answer_with(status(400, body=b"no such project"))
        traces = pipeline({"vendor": otlp(receiver.url)}, three)
        printed = run("spool")
        assert "3 dead-lettered spans; `spancast spool requeue` sends them again:" in printed
        assert "HTTP 400" in printed
        assert all(trace_id in printed for trace_id in traces)
        listed = run.data("spool", "--limit", "2")
        assert [(one["destination"], one["trace_id"]) for one in listed["dead_letters"]] == [
            ("vendor", traces[2]), ("vendor", traces[1]),
        ]  # fmt: skip
        assert "(the newest 2)" in run("spool", "--limit", "2")

    def test_spool_lists_single_failed_span_with_reason(self, run: Command) -> None:
        configure({"here": {"type": "store", "path": "spans.db", "spans": "all", "max_age": "36500d"}})
        sender = pipeline_to({"here": {"type": "store", "path": "spans.db", "max_age": "36500d"}}, Path("queue"))
        spans = records([span("a", number + 1) for number in range(3)])
        spans[1].body = b"\x0b" + spans[1].body
        sender.spool.put(spans, {})
        sender._start()
        report = sender.flush(30)
        assert (report.destinations["here"].delivered, report.destinations["here"].dead_lettered) == (2, 1)
        sender.shutdown()
        assert "1 dead-lettered span;" in run("spool")
        [listed] = run.data("spool")["dead_letters"]
        assert (listed["destination"], listed["span_id"]) == ("here", spans[1].span_id.hex())
        assert listed["reason"].startswith("JSONDecodeError in encoding.span_data.")

    def test_spool_names_destination_not_configured(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        configure({"here": file("here")})
        printed = " ".join(run("spool").split())
        assert " queued, no enabled destination of the configuration has this name" in printed

    def test_spool_option_needs_no_configuration(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        Path("spancast.yaml").write_text("destinations: {a: {type: langfuse, public_key: '${env:NOT_SET}'}}")
        assert "destinations.a" in run("spool", status=1) + run.err
        assert "pass --spool DIR to use no configuration" in run.err
        assert run.data("spool", "--spool", "queue")["spans"] == 3
        assert run.data("spool", "--spool", "queue/spool.sqlite3")["spans"] == 3

    def test_missing_spool_fails(self, run: Command) -> None:
        run("spool", "--spool", "nowhere", status=1)
        assert run.err.startswith("spancast: no spool at nowhere/spool.sqlite3: ")
        assert not Path("nowhere").exists()

    def test_spool_in_memory_fails(self, run: Command) -> None:
        configure({"here": file("here")}, spool="memory")
        run("spool", status=1)
        assert "spancast.stats()" in run.err

    def test_foreign_database_fails(self, run: Command) -> None:
        Path("queue").mkdir()
        Path("queue", SPOOL_FILE).write_bytes(b"")
        database = sqlite3.connect(Path("queue") / SPOOL_FILE)
        database.execute("CREATE TABLE theirs (a)")
        database.commit()
        database.close()
        run("spool", "--spool", "queue", status=1)
        assert "is a database of another program" in run.err

    def test_commands_leave_leases_of_running_process(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        running = opened()
        lease = running.lease(*running.routes(), max_records=10, max_bytes=1 << 20, now_s=sys.maxsize)
        assert lease is not None
        run("spool")
        run("explain", lease.entries[0].record.trace_id.hex())
        run("spool", "requeue", status=1)
        assert running.extend(lease, 0.0)
        running.ack(lease)
        running.close()
        assert run.data("spool")["destinations"]["away"]["delivered"] == 3


class TestFlush:
    def test_flush_does_not_drop_expired_spans(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        month_s = 30 * 86_400
        database = sqlite3.connect(Path("queue") / SPOOL_FILE)
        database.execute("UPDATE batches SET put_s = put_s - ?", (month_s,))
        database.commit()
        database.close()
        run("spool", "flush", "--timeout", "200ms", status=1)
        run("spool", "--spool", "queue")
        assert run.data("spool")["destinations"]["away"]["queued"] == 3
        blocked.unlink()
        assert run("spool", "flush") == "away: 3 delivered\n"

    def test_flush_sends_queued_spans(self, run: Command, blocked: Path) -> None:
        pipeline({"here": file("here"), "away": AWAY}, three, BLOCKED_S)
        run("spool", "flush", "--timeout", "200ms", "away", status=1)
        blocked.unlink()
        assert run("spool", "flush") == "here: 0 delivered\naway: 3 delivered\n"
        assert delivered("gone/away") == delivered("here") == 3
        assert run.data("spool")["destinations"]["away"]["queued"] == 0

    def test_flush_reports_still_queued_spans(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        printed = run("spool", "flush", "--timeout", "200ms", status=1)
        assert printed.startswith("away: 0 delivered, 3 queued; gone/away.jsonl: ")
        assert run.data("spool", "flush", "--timeout", "200ms", status=1)["destinations"]["away"]["queued"] == 3

    def test_flush_skips_spans_leased_by_other_process(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        blocked.unlink()
        other = opened()
        lease = other.lease(*other.routes(), max_records=10, max_bytes=1 << 20, now_s=time.time(), is_early=True)
        assert lease is not None
        printed = run("spool", "flush", "--timeout", "200ms", status=1)
        assert printed.startswith("away: 0 delivered, 3 queued; another process is sending to it, or ")
        assert delivered("gone/away") == 0
        other.nack(lease, 0.0, "")
        other.close()
        assert run("spool", "flush") == "away: 3 delivered\n"

    def test_flush_without_destinations_fails(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        configure({})
        run("spool", "flush", status=2)
        assert "no destination is configured; pass --config FILE" in run.err

    def test_flush_misspelled_destination_fails(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        run("spool", "flush", "her", status=2)
        assert "unknown destination `her`; did you mean `here`?" in run.err


class TestRequeue:
    def test_requeue_sends_dead_letters_again(self, run: Command, receiver: OtlpReceiver) -> None:
        receiver.answer_with(status(400))
        traces = pipeline({"vendor": otlp(receiver.url)}, three)
        receiver.answer_with(ok())
        first = run.data("spool")["dead_letters"][-1]["sequence"]
        data = run.data("spool", "requeue", f"{first}-{first + 1}")
        assert data["queued"] == {"vendor": 2}
        assert data["destinations"]["vendor"]["delivered"] == 2
        assert run("spool", "requeue", "vendor") == "vendor: 1 span queued\nvendor: 1 delivered\n"
        assert sorted(trace_id for trace_id, _ in receiver.spans) == sorted(traces)
        run("spool", "requeue", status=1)
        assert run.err == "spancast: no span is dead-lettered\n"

    def test_requeue_rejected_again_is_dead_lettered_again(self, run: Command, receiver: OtlpReceiver) -> None:
        receiver.answer_with(status(400))
        pipeline({"vendor": otlp(receiver.url)}, three)
        assert "vendor: 0 delivered, 3 dead-lettered" in run("spool", "requeue", status=1)
        assert len(run.data("spool")["dead_letters"]) == 3

    def test_requeue_no_flush_only_queues(self, run: Command, receiver: OtlpReceiver) -> None:
        receiver.answer_with(status(400))
        pipeline({"vendor": otlp(receiver.url)}, three)
        receiver.answer_with(ok())
        printed = run("spool", "requeue", "--no-flush", "--spool", "queue")
        assert printed == "vendor: 3 spans queued; sent by the next process that has this destination\n"
        assert receiver.spans == []
        assert run.data("spool")["destinations"]["vendor"]["queued"] == 3

    def test_requeue_without_dead_letters_fails(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        run("spool", "requeue", "1", status=1)
        assert run.err == "spancast: none of these spans is dead-lettered; see `spancast spool`\n"
        run("spool", "requeue", "unknown", status=2)
        assert "unknown destination `unknown`" in run.err


class TestReplay:
    def test_replay_applies_filter_rules_of_new_destination(self, run: Command) -> None:
        def two_models(tracer: Tracer) -> list[str]:
            models = ("gpt-4o", "claude-sonnet-4.5", "gpt-4o-mini")
            return [call(tracer, **{"gen_ai.request.model": model})[0] for model in models]

        traces = pipeline({"here": file("here")}, two_models)
        rule = {"field": "model", "operator": "starts_with", "value": "gpt"}
        configure({"here": file("here"), "new": file("new", filter_rules={"groups": [{"rules": [rule]}]})})
        assert run("spool", "replay", "new", "--since", "1d") == "new: 2 spans queued\nnew: 2 delivered\n"
        assert delivered("new") == 2
        assert delivered("here") == 3
        states = run.data("explain", traces[1])["spans"][0]["destinations"]
        assert states["new"]["state"] == "filtered"

    @pytest.mark.parametrize(("value", "count"), [("canary question", 3), ("something else", 0)])
    def test_replay_applies_rules_on_content(self, run: Command, value: str, count: int) -> None:
        pipeline({"here": file("here")}, three)
        rule = {"field": "input", "operator": "contains", "value": value}
        configure({"new": file("new", filter_rules={"groups": [{"rules": [rule]}]})})
        run("spool", "replay", "new", "--since", "1d", status=0 if count else 1)
        assert delivered("new") == count

    def test_replay_single_trace(self, run: Command) -> None:
        traces = pipeline({"here": file("here")}, three)
        configure({"new": file("new")})
        run("spool", "replay", "new", "--since", "1d", "--trace", traces[1])
        assert delivered("new") == 1
        run("spool", "replay", "new", "--since", "1d", "--trace", "other", status=1)
        assert run.err.startswith(
            "spancast: no spans to replay to new: none are stored for this time range, or they are filtered"
        )

    def test_replay_time_range(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        configure({"new": file("new")})
        run("spool", "replay", "new", "--since", "2d", "--until", "1d", status=1)
        run("spool", "replay", "new", "--since", "2020-01-01", "--until", "2020-01-02T10:00Z", status=1)
        run("spool", "replay", "new", "--since", "2020-01-01", "--until", "2100-01-01")
        assert delivered("new") == 3

    def test_replay_no_flush_only_queues(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        configure({"new": file("new")})
        assert run.data("spool", "replay", "new", "--since", "1d", "--no-flush") == {
            "queued": {"new": 3},
            "destinations": {},
        }
        assert delivered("new") == 0
        assert run("spool", "flush") == "new: 3 delivered\n"

    def test_replay_invalid_time_fails(self, run: Command, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["spool", "replay", "new", "--since", "yesterday"])
        assert ended.value.code == 2
        assert "or a date such as" in capsys.readouterr().err


class TestPurge:
    def test_purge_drops_all_queued_spans(self, run: Command, blocked: Path) -> None:
        traces = pipeline({"away": AWAY}, three, BLOCKED_S)
        assert run("spool", "purge", "away", "--yes") == "away: 3 spans purged\n"
        state = run.data("spool")["destinations"]["away"]
        assert (state["queued"], state["dropped"]) == (0, 3)
        assert "dropped" in run("explain", traces[0])
        printed = run("spool")
        assert "3 dropped spans:" in printed
        assert "away: purged" in printed
        assert all(trace_id in printed for trace_id in traces)
        assert [one["trace_id"] for one in run.data("spool")["dropped"]] == traces[::-1]
        assert run("spool", "purge", "away", "--yes") == "away: no span is queued\n"
        assert run.data("spool", "purge", "away", "--yes") == {"destination": "away", "purged": 0}

    def test_purge_single_spans(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        assert run.data("spool", "purge", "away", "--yes", "2-3")["purged"] == 2
        assert run.data("spool")["destinations"]["away"]["queued"] == 1
        assert [one["sequence"] for one in run.data("spool")["dropped"]] == [3, 2]
        assert [one["sequence"] for one in run.data("spool", "--limit", "1")["dropped"]] == [3]
        assert "2 dropped spans (the newest 1):" in run("spool", "--limit", "1")
        run("spool", "purge", "away", "--yes", "77", status=1)

    @pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("Yes\n", 0), ("n\n", 3), ("\n", 3), ("", 3)])
    def test_purge_asks_for_confirmation(
        self, answer: str, left: int, run: Command, blocked: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        pipeline({"away": AWAY}, three, BLOCKED_S)
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        printed = run("spool", "purge", "away", status=1 if left else 0)
        assert printed.startswith("Purge 3 queued spans of away? [y/N]")
        assert run.data("spool")["destinations"]["away"]["queued"] == left

    def test_purge_without_terminal_fails(self, run: Command, blocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        run("spool", "purge", "away", status=2)
        assert "stdin is not a terminal; pass --yes to confirm" in run.err
        assert run.data("spool")["destinations"]["away"]["queued"] == 3

    def test_purge_misspelled_destination_fails(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        run("spool", "purge", "awy", "--yes", status=2)
        assert "did you mean `away`?" in run.err


class TestSharedName:
    """A spool in which two programs, or two configurations, use one name for two destinations."""

    @pytest.fixture
    def earlier(self, blocked: Path) -> str:
        """Queue 3 spans for `eu` at an earlier address and deliver 2 to the current one; return the name of the earlier."""
        pipeline({"eu": AWAY}, three, BLOCKED_S)
        pipeline({"eu": file("here")}, lambda tracer: [call(tracer) for _ in range(2)])
        spool = opened()
        first, _ = spool.routes()
        spool.close()
        assert first.startswith("eu@")
        return first

    def test_spool_shows_both(self, run: Command, earlier: str) -> None:
        printed = run("spool")
        rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[4:6]}
        assert (rows[earlier][0], rows[earlier][3], rows["eu"][0], rows["eu"][3]) == ("3", "0", "0", "2")
        assert " queued, for eu of another program, or of this one before its address" in " ".join(printed.split())
        data = run.data("spool")["destinations"]
        assert (data[earlier]["queued"], data["eu"]["delivered"]) == (3, 2)

    def test_spool_long_name_keeps_fingerprint(self, run: Command, blocked: Path) -> None:
        name = "a-destination-with-a-name-of-45-characters-xy"
        pipeline({name: AWAY}, three, BLOCKED_S)
        configure({name: file("here")})
        spool = opened()
        [key] = spool.routes()
        spool.close()
        assert any(line.startswith("a-destin…") and key[-13:] in line for line in run("spool").splitlines())

    def test_names_without_configuration_have_fingerprint(self, run: Command, earlier: str) -> None:
        names = run.data("spool", "--spool", "queue")["destinations"].keys()
        assert earlier in names
        assert "eu" not in names
        run("spool", "purge", "--spool", "queue", "eu", "--yes", status=2)
        assert earlier in run.err
        assert run("spool", "purge", "--spool", "queue", earlier, "--yes") == f"{earlier}: 3 spans purged\n"

    def test_name_means_current_destination(self, run: Command, earlier: str, blocked: Path) -> None:
        blocked.unlink()
        assert run("spool", "purge", "eu", "--yes") == "eu: no span is queued\n"
        assert run("spool", "flush") == "eu: 0 delivered\n"
        run("spool", "flush", earlier, status=2)
        assert (delivered("gone/away"), delivered("here")) == (0, 2)
        assert run("spool", "purge", earlier, "--yes", "1-2") == f"{earlier}: 2 spans purged\n"
        assert run("spool", "purge", earlier, "--yes") == f"{earlier}: 1 span purged\n"
        assert [one["destination"] for one in run.data("spool")["dropped"]] == [earlier] * 3

    def test_replay_from_earlier_destination(self, run: Command, earlier: str) -> None:
        """As after a key was replaced; the spans of other destinations are not sent."""
        pipeline({"eu": file("here"), "other": file("other")}, three)
        printed = run("spool", "replay", "--from", earlier, "eu", "--since", "1d")
        assert printed == "eu: 3 spans queued\neu: 3 delivered\n"
        assert delivered("here") == 2 + 3 + 3
        run("spool", "replay", "--from", "eu@0", "eu", "--since", "1d", status=2)
        run("spool", "purge", earlier, "--yes")
        run("spool", "replay", "--from", earlier, "eu", "--since", "1d", status=1)
        assert delivered("here") == 8

    def test_flush_with_earlier_configuration_sends_to_it(self, run: Command, earlier: str, blocked: Path) -> None:
        blocked.unlink()
        configure({"eu": {**AWAY, "path": "./gone/../gone//away.jsonl"}})
        assert run("spool", "flush") == "eu: 3 delivered\n"
        assert delivered("gone/away") == 3

    def test_requeue_each_destination(self, run: Command, receiver: OtlpReceiver) -> None:
        receiver.answer_with(status(400))
        pipeline({"eu": otlp(f"{receiver.url}/one")}, three)
        pipeline({"eu": otlp(f"{receiver.url}/two")}, three)
        receiver.answer_with(ok())
        destinations = [one["destination"] for one in run.data("spool")["dead_letters"]]
        assert destinations[:3] == ["eu"] * 3
        assert destinations[3].startswith("eu@")
        assert run.data("spool", "requeue", "eu")["queued"] == {"eu": 3}
        assert {request.path for request in receiver.requests[-1:]} == {"/two/v1/traces"}
        data = run.data("spool", "requeue", destinations[3])
        assert (data["queued"], data["destinations"]) == ({destinations[3]: 3}, {})

    def test_explain_shows_both(self, run: Command, blocked: Path) -> None:
        traces = pipeline({"eu": AWAY}, three, BLOCKED_S)
        later = pipeline({"eu": file("here")}, three)
        printed = run("explain", traces[0]).splitlines()[3:]
        assert printed[0].startswith("eu  ")
        assert "not configured" in printed[0]
        assert any(line.startswith("eu@") and "queued: " in line for line in printed)
        printed = run("explain", later[0])
        assert "eu  delivered" in printed
        assert "eu@" not in printed


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (45, "45 s"), (89, "89 s"), (720, "12 min"), (10_000, "3 h"), (777_600, "9 d")]
)
def test_lapse(seconds: float, text: str) -> None:
    assert formatting.lapse(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (5120, "5.0 KiB"), (3 << 30, "3.0 GiB")])
def test_size(count: int, text: str) -> None:
    assert formatting.size(count) == text
