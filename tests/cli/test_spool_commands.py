"""``spancast spool`` and what it does about what waits, was refused, or is past."""

from __future__ import annotations

import io
import math
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
from spancast.export.pipeline import SPOOL_FILE
from spancast.export.spool.disk import SqliteSpool


def opened() -> SqliteSpool:
    return SqliteSpool(Path("queue") / SPOOL_FILE, max_bytes=1 << 28, max_age_s=math.inf)


class TestOverview:
    def test_per_destination(self, run: Command, blocked: Path) -> None:
        pipeline({"here": file("here"), "away": AWAY}, three, BLOCKED_S)
        lines = run("spool").splitlines()
        assert lines[0].endswith("queue/spool.sqlite3")
        assert lines[1].startswith("3 spans kept, the oldest ")
        rows = {line.split()[0]: line.split()[1:] for line in lines[4:6]}
        assert rows["here"][:5] == ["0", "-", "0", "0", "3"]
        assert (rows["away"][0], rows["away"][-4:]) == ("3", ["0", "0", "0", "never"])
        assert any(line.startswith("away: tried ") for line in lines)
        assert "Not a directory" in " ".join(lines) or "File exists" in " ".join(lines)

    def test_for_scripts(self, run: Command, blocked: Path) -> None:
        pipeline({"here": file("here"), "away": AWAY}, three, BLOCKED_S)
        told = run.data("spool")
        assert (told["spans"], told["trouble"], told["refused"]) == (3, "", [])
        assert told["destinations"]["here"]["delivered"] == told["destinations"]["away"]["waiting"] == 3
        assert told["destinations"]["away"]["attempts"] > 0
        assert told["destinations"]["away"]["next_try"].endswith("Z")
        assert told["destinations"]["here"]["last_error"] == ""

    def test_what_was_refused_and_why(self, run: Command, receiver: OtlpReceiver) -> None:
        receiver.answer_with(status(400, body=b"no such project"))
        traces = pipeline({"vendor": otlp(receiver.url)}, three)
        printed = run("spool")
        assert "3 refused spans; `spancast spool retry` sends them again:" in printed
        assert "HTTP 400" in printed
        assert all(trace_id in printed for trace_id in traces)
        listed = run.data("spool", "--limit", "2")
        assert [(one["destination"], one["trace_id"]) for one in listed["refused"]] == [
            ("vendor", traces[2]), ("vendor", traces[1]),
        ]  # fmt: skip
        assert "(the newest 2)" in run("spool", "--limit", "2")

    def test_a_span_that_failed_alone_and_why(self, run: Command) -> None:
        configure({"here": {"type": "store", "path": "spans.db", "spans": "all", "max_age": "36500d"}})
        sender = pipeline_to({"here": {"type": "store", "path": "spans.db", "max_age": "36500d"}}, Path("queue"))
        made = records([span("a", number + 1) for number in range(3)])
        made[1].body = b"\x0b" + made[1].body
        sender.spool.put(made, {})
        sender._start()
        report = sender.flush(30)
        assert (report.destinations["here"].delivered, report.destinations["here"].dead_lettered) == (2, 1)
        sender.shutdown()
        assert "1 refused span" in run("spool")
        [listed] = run.data("spool")["refused"]
        assert (listed["destination"], listed["span_id"]) == ("here", made[1].span_id.hex())
        assert listed["reason"].startswith("JSONDecodeError in encoding.span_data.")

    def test_a_destination_that_is_configured_no_more(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        configure({"here": file("here")})
        assert "away: no enabled destination of the configuration has this name" in run("spool")

    def test_a_named_spool_needs_no_configuration(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        Path("spancast.yaml").write_text("destinations: {a: {type: langfuse, public_key: '${env:NOT_SET}'}}")
        assert "destinations.a" in run("spool", status=1) + run.err
        assert "pass --spool DIR to use no configuration" in run.err
        assert run.data("spool", "--spool", "queue")["spans"] == 3
        assert run.data("spool", "--spool", "queue/spool.sqlite3")["spans"] == 3

    def test_no_spool(self, run: Command) -> None:
        run("spool", "--spool", "nowhere", status=1)
        assert run.err.startswith("spancast: no spool at nowhere/spool.sqlite3: ")
        assert not Path("nowhere").exists()

    def test_a_spool_in_memory(self, run: Command) -> None:
        configure({"here": file("here")}, spool="memory")
        run("spool", status=1)
        assert "spancast.stats()" in run.err

    def test_another_programs_file(self, run: Command) -> None:
        Path("queue").mkdir()
        Path("queue", SPOOL_FILE).write_bytes(b"")
        database = sqlite3.connect(Path("queue") / SPOOL_FILE)
        database.execute("CREATE TABLE theirs (a)")
        database.commit()
        database.close()
        run("spool", "--spool", "queue", status=1)
        assert "is a database of another program" in run.err

    def test_a_running_process_keeps_what_it_holds(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        running = opened()
        lease = running.lease(*running.routes(), max_records=10, max_bytes=1 << 20, now_s=sys.maxsize)
        assert lease is not None
        run("spool")
        run("explain", lease.entries[0].record.trace_id.hex())
        run("spool", "retry", status=1)
        assert running.extend(lease, 0.0)
        running.ack(lease)
        running.close()
        assert run.data("spool")["destinations"]["away"]["delivered"] == 3


class TestDeliver:
    def test_a_command_drops_nothing_for_its_age(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        month_s = 30 * 86_400
        database = sqlite3.connect(Path("queue") / SPOOL_FILE)
        database.execute("UPDATE batches SET put_s = put_s - ?", (month_s,))
        database.commit()
        database.close()
        run("spool", "deliver", "--timeout", "200ms", status=1)
        run("spool", "--spool", "queue")
        assert run.data("spool")["destinations"]["away"]["waiting"] == 3
        blocked.unlink()
        assert run("spool", "deliver") == "away: 3 delivered\n"

    def test_sends_what_waits(self, run: Command, blocked: Path) -> None:
        pipeline({"here": file("here"), "away": AWAY}, three, BLOCKED_S)
        run("spool", "deliver", "--timeout", "200ms", "--to", "away", status=1)
        blocked.unlink()
        assert run("spool", "deliver") == "here: 0 delivered\naway: 3 delivered\n"
        assert delivered("gone/away") == delivered("here") == 3
        assert run.data("spool")["destinations"]["away"]["waiting"] == 0

    def test_tells_what_still_waits(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        printed = run("spool", "deliver", "--timeout", "200ms", status=1)
        assert printed.startswith("away: 0 delivered, 3 waiting; gone/away.jsonl: ")
        assert run.data("spool", "deliver", "--timeout", "200ms", status=1)["destinations"]["away"]["waiting"] == 3

    def test_what_another_process_is_sending_is_left_to_it(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        blocked.unlink()
        other = opened()
        lease = other.lease(*other.routes(), max_records=10, max_bytes=1 << 20, now_s=time.time() + 60)
        assert lease is not None
        printed = run("spool", "deliver", "--timeout", "200ms", status=1)
        assert printed.startswith("away: 0 delivered, 3 waiting; another process is sending to it, or ")
        assert delivered("gone/away") == 0
        other.nack(lease, 0.0, "")
        other.close()
        assert run("spool", "deliver") == "away: 3 delivered\n"

    def test_without_destinations(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        configure({})
        run("spool", "deliver", status=2)
        assert "names no destination" in run.err

    def test_a_misspelt_destination(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        run("spool", "deliver", "--to", "her", status=2)
        assert "unknown destination `her`; did you mean `here`?" in run.err


class TestRetry:
    def test_what_was_refused_is_sent_again(self, run: Command, receiver: OtlpReceiver) -> None:
        receiver.answer_with(status(400))
        traces = pipeline({"vendor": otlp(receiver.url)}, three)
        receiver.answer_with(ok())
        first = run.data("spool")["refused"][-1]["sequence"]
        told = run.data("spool", "retry", f"{first}-{first + 1}")
        assert told["queued"] == {"vendor": 2}
        assert told["destinations"]["vendor"]["delivered"] == 2
        assert run("spool", "retry", "--to", "vendor") == "vendor: 1 span to be sent\nvendor: 1 delivered\n"
        assert sorted(trace_id for trace_id, _ in receiver.spans) == sorted(traces)
        run("spool", "retry", status=1)
        assert run.err == "spancast: nothing is refused\n"

    def test_refused_again(self, run: Command, receiver: OtlpReceiver) -> None:
        receiver.answer_with(status(400))
        pipeline({"vendor": otlp(receiver.url)}, three)
        assert "vendor: 0 delivered, 3 refused" in run("spool", "retry", status=1)
        assert len(run.data("spool")["refused"]) == 3

    def test_left_to_the_running_process(self, run: Command, receiver: OtlpReceiver) -> None:
        receiver.answer_with(status(400))
        pipeline({"vendor": otlp(receiver.url)}, three)
        receiver.answer_with(ok())
        printed = run("spool", "retry", "--no-deliver", "--spool", "queue")
        assert printed == "vendor: 3 spans to be sent; sent by the next process that has this destination\n"
        assert receiver.spans == []
        assert run.data("spool")["destinations"]["vendor"]["waiting"] == 3

    def test_what_was_not_refused(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        run("spool", "retry", "1", status=1)
        assert run.err == "spancast: none of these is refused\n"
        run("spool", "retry", "--to", "nobody", status=2)
        assert "unknown destination `nobody`" in run.err


class TestReplay:
    def test_a_new_destination_gets_the_past_its_rules_take(self, run: Command) -> None:
        def two_models(tracer: Tracer) -> list[str]:
            models = ("gpt-4o", "claude-sonnet-4.5", "gpt-4o-mini")
            return [call(tracer, **{"gen_ai.request.model": model})[0] for model in models]

        traces = pipeline({"here": file("here")}, two_models)
        rule = {"field": "model", "operator": "starts_with", "value": "gpt"}
        configure({"here": file("here"), "new": file("new", filter_rules={"groups": [{"rules": [rule]}]})})
        assert run("spool", "replay", "--to", "new", "--since", "1d") == "new: 2 spans to be sent\nnew: 2 delivered\n"
        assert delivered("new") == 2
        assert delivered("here") == 3
        fates = run.data("explain", traces[1])["spans"][0]["destinations"]
        assert fates["new"]["fate"] == "filtered"

    @pytest.mark.parametrize(("value", "count"), [("canary question", 3), ("something else", 0)])
    def test_rules_on_what_was_said_hold_for_the_past_too(self, run: Command, value: str, count: int) -> None:
        pipeline({"here": file("here")}, three)
        rule = {"field": "input", "operator": "contains", "value": value}
        configure({"new": file("new", filter_rules={"groups": [{"rules": [rule]}]})})
        run("spool", "replay", "--to", "new", "--since", "1d", status=0 if count else 1)
        assert delivered("new") == count

    def test_one_trace_of_the_callers_own_id(self, run: Command) -> None:
        traces = pipeline({"here": file("here")}, three)
        configure({"new": file("new")})
        run("spool", "replay", "--to", "new", "--since", "1d", "--trace", traces[1])
        assert delivered("new") == 1
        run("spool", "replay", "--to", "new", "--since", "1d", "--trace", "other", status=1)
        assert run.err.startswith("spancast: nothing of that time is kept that new takes")

    def test_only_of_the_time(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        configure({"new": file("new")})
        run("spool", "replay", "--to", "new", "--since", "2d", "--until", "1d", status=1)
        run("spool", "replay", "--to", "new", "--since", "2020-01-01", "--until", "2020-01-02T10:00Z", status=1)
        run("spool", "replay", "--to", "new", "--since", "2020-01-01", "--until", "2100-01-01")
        assert delivered("new") == 3

    def test_left_to_the_running_process(self, run: Command) -> None:
        pipeline({"here": file("here")}, three)
        configure({"new": file("new")})
        assert run.data("spool", "replay", "--to", "new", "--since", "1d", "--no-deliver") == {
            "queued": {"new": 3},
            "destinations": {},
        }
        assert delivered("new") == 0
        assert run("spool", "deliver") == "new: 3 delivered\n"

    def test_a_wrong_time(self, run: Command, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["spool", "replay", "--to", "new", "--since", "yesterday"])
        assert ended.value.code == 2
        assert "or a date such as" in capsys.readouterr().err


class TestDrop:
    def test_all_that_waits(self, run: Command, blocked: Path) -> None:
        traces = pipeline({"away": AWAY}, three, BLOCKED_S)
        assert run("spool", "drop", "--to", "away", "--yes") == "away: 3 spans given up\n"
        state = run.data("spool")["destinations"]["away"]
        assert (state["waiting"], state["dropped"]) == (0, 3)
        assert "dropped" in run("explain", traces[0])
        printed = run("spool")
        assert "3 dropped spans:" in printed
        assert "away: purged" in printed
        assert all(trace_id in printed for trace_id in traces)
        assert [one["trace_id"] for one in run.data("spool")["dropped"]] == traces[::-1]
        assert run("spool", "drop", "--to", "away", "--yes") == "nothing waits for away\n"

    def test_single_ones(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        assert run.data("spool", "drop", "--to", "away", "--yes", "2-3")["dropped"] == 2
        assert run.data("spool")["destinations"]["away"]["waiting"] == 1
        assert [one["sequence"] for one in run.data("spool")["dropped"]] == [3, 2]
        assert [one["sequence"] for one in run.data("spool", "--limit", "1")["dropped"]] == [3]
        assert "2 dropped spans (the newest 1):" in run("spool", "--limit", "1")
        run("spool", "drop", "--to", "away", "--yes", "77", status=1)

    @pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("Yes\n", 0), ("n\n", 3), ("\n", 3), ("", 3)])
    def test_asks_first(
        self, answer: str, left: int, run: Command, blocked: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        pipeline({"away": AWAY}, three, BLOCKED_S)
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        printed = run("spool", "drop", "--to", "away", status=1 if left else 0)
        assert printed.startswith("Give up 3 spans waiting for away? [y/N]")
        assert run.data("spool")["destinations"]["away"]["waiting"] == left

    def test_nobody_to_ask(self, run: Command, blocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        run("spool", "drop", "--to", "away", status=2)
        assert "`--yes` does it without asking" in run.err
        assert run.data("spool")["destinations"]["away"]["waiting"] == 3

    def test_a_misspelt_destination(self, run: Command, blocked: Path) -> None:
        pipeline({"away": AWAY}, three, BLOCKED_S)
        run("spool", "drop", "--to", "awy", "--yes", status=2)
        assert "did you mean `away`?" in run.err


class TestOneNameForTwoPlaces:
    """What the commands make of a spool in which two programs, or two configurations, have one name."""

    @pytest.fixture
    def elsewhere(self, blocked: Path) -> str:
        """Leave 3 spans for `eu` at a former address; return its name beside the present one, which had 2."""
        pipeline({"eu": AWAY}, three, BLOCKED_S)
        pipeline({"eu": file("here")}, lambda tracer: [call(tracer) for _ in range(2)])
        spool = opened()
        first, _ = spool.routes()
        spool.close()
        assert first.startswith("eu@")
        return first

    def test_are_told_apart(self, run: Command, elsewhere: str) -> None:
        printed = run("spool")
        rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[4:6]}
        assert (rows[elsewhere][0], rows[elsewhere][5], rows["eu"][0], rows["eu"][4]) == ("3", "0", "0", "2")
        assert f"{elsewhere}: for eu of another program, or of this one before its address" in printed
        told = run.data("spool")["destinations"]
        assert (told[elsewhere]["waiting"], told["eu"]["delivered"]) == (3, 2)

    def test_a_long_name_keeps_what_tells_it_apart(self, run: Command, blocked: Path) -> None:
        name = "a-destination-with-a-name-of-45-characters-xy"
        pipeline({name: AWAY}, three, BLOCKED_S)
        configure({name: file("here")})
        spool = opened()
        [key] = spool.routes()
        spool.close()
        assert any(line.startswith("a-destin…") and key[-13:] in line for line in run("spool").splitlines())

    def test_without_a_configuration_each_has_its_own_name(self, run: Command, elsewhere: str) -> None:
        names = run.data("spool", "--spool", "queue")["destinations"].keys()
        assert elsewhere in names
        assert "eu" not in names
        run("spool", "drop", "--spool", "queue", "--to", "eu", "--yes", status=2)
        assert elsewhere in run.err
        assert (
            run("spool", "drop", "--spool", "queue", "--to", elsewhere, "--yes") == f"{elsewhere}: 3 spans given up\n"
        )

    def test_the_name_is_the_present_one(self, run: Command, elsewhere: str, blocked: Path) -> None:
        blocked.unlink()
        assert run("spool", "drop", "--to", "eu", "--yes") == "nothing waits for eu\n"
        assert run("spool", "deliver") == "eu: 0 delivered\n"
        run("spool", "deliver", "--to", elsewhere, status=2)
        assert (delivered("gone/away"), delivered("here")) == (0, 2)
        assert run("spool", "drop", "--to", elsewhere, "--yes", "1-2") == f"{elsewhere}: 2 spans given up\n"
        assert run("spool", "drop", "--to", elsewhere, "--yes") == f"{elsewhere}: 1 span given up\n"
        assert [one["destination"] for one in run.data("spool")["dropped"]] == [elsewhere] * 3

    def test_what_waits_for_the_former_goes_to_the_present_one_if_asked(self, run: Command, elsewhere: str) -> None:
        """As after a key was replaced; without what other destinations had."""
        pipeline({"eu": file("here"), "other": file("other")}, three)
        printed = run("spool", "replay", "--from", elsewhere, "--to", "eu", "--since", "1d")
        assert printed == "eu: 3 spans to be sent\neu: 3 delivered\n"
        assert delivered("here") == 2 + 3 + 3
        run("spool", "replay", "--from", "eu@0", "--to", "eu", "--since", "1d", status=2)
        run("spool", "drop", "--to", elsewhere, "--yes")
        run("spool", "replay", "--from", elsewhere, "--to", "eu", "--since", "1d", status=1)
        assert delivered("here") == 8

    def test_the_former_configuration_sends_what_waited_for_it(
        self, run: Command, elsewhere: str, blocked: Path
    ) -> None:
        blocked.unlink()
        configure({"eu": {**AWAY, "path": "./gone/../gone//away.jsonl"}})
        assert run("spool", "deliver") == "eu: 3 delivered\n"
        assert delivered("gone/away") == 3

    def test_refused_ones(self, run: Command, receiver: OtlpReceiver) -> None:
        receiver.answer_with(status(400))
        pipeline({"eu": otlp(f"{receiver.url}/one")}, three)
        pipeline({"eu": otlp(f"{receiver.url}/two")}, three)
        receiver.answer_with(ok())
        destinations = [one["destination"] for one in run.data("spool")["refused"]]
        assert destinations[:3] == ["eu"] * 3
        assert destinations[3].startswith("eu@")
        assert run.data("spool", "retry", "--to", "eu")["queued"] == {"eu": 3}
        assert {request.path for request in receiver.requests[-1:]} == {"/two/v1/traces"}
        told = run.data("spool", "retry", "--to", destinations[3])
        assert (told["queued"], told["destinations"]) == ({destinations[3]: 3}, {})

    def test_explain(self, run: Command, blocked: Path) -> None:
        traces = pipeline({"eu": AWAY}, three, BLOCKED_S)
        later = pipeline({"eu": file("here")}, three)
        printed = run("explain", traces[0]).splitlines()[3:]
        assert printed[0].startswith("eu  ")
        assert "not configured then" in printed[0]
        assert any(line.startswith("eu@") and "waiting: tried" in line for line in printed)
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
