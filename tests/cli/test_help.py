"""Help and usage errors of every command: plain words, an example, and the documented exit status."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.past import Command, file, pipeline, three
from tests.destinations.spans import TRACE_ID, conversation

from spancast.cli import GROUPS, main, parser
from spancast.cli.command import Parser
from spancast.destinations.span_store import Store
from spancast.model.version import VERSION


def commands(of: argparse.ArgumentParser) -> Iterator[Parser]:
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command
                yield from commands(command)


COMMANDS = list(commands(parser()))


def test_every_command_is_in_the_table_of_modules() -> None:
    choices = {command.prog.split()[1] for command in COMMANDS}
    assert choices == {name for names in GROUPS.values() for name in names}
    assert sum(map(len, GROUPS.values())) == len(choices)


@pytest.mark.parametrize(
    ("words", "unneeded", "shown"),
    [
        (["--version"], ("pydantic", "rich", "sqlite3"), f"spancast {VERSION}"),
        (["traces"], ("pydantic", "yaml", "opentelemetry.sdk"), "Order Processing"),
        (["explain", TRACE_ID], ("yaml", "opentelemetry.sdk"), "the local store has 4 spans"),
    ],
    ids=["version", "traces", "explain"],
)
def test_command_imports_only_what_it_needs(
    words: list[str], unneeded: tuple[str, ...], shown: str, tmp_path: Path
) -> None:
    Store(tmp_path / "spancast" / "spans.db").write(conversation())
    program = (
        f"import sys; from spancast.cli import main; assert main({words}) == 0\n"
        f"assert not [name for name in {unneeded} if name in sys.modules]"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANCAST_"))}
    ended = subprocess.run(
        [sys.executable, "-c", program], env={**environ, "XDG_STATE_HOME": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert shown in ended.stdout


@pytest.mark.parametrize("columns", ["80", "50"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.prog)
def test_help_has_a_sentence_an_example_and_the_exit_status(
    command: Parser, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as ended:
        main([*command.prog.split()[1:], "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert command.description.split(".")[0][:30] in printed
    assert "\nexit status: " in printed
    assert f"\nexample:\n  {command.example}\n" in printed
    assert all(len(line) <= int(columns) or command.example in line for line in printed.splitlines())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.prog)
def test_example_is_a_valid_command_line(command: Parser) -> None:
    words = shlex.split(command.example.partition(" > ")[0])
    assert " ".join(words).startswith(command.prog)
    args, unknown = parser().parse_known_args(words[1:])
    assert callable(args.run)
    assert not unknown


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "spancast: the following arguments are required: COMMAND"),
        ("nonsense", "spancast: argument COMMAND: invalid choice: 'nonsense'"),
        ("show", "spancast show: the following arguments are required: TRACE_ID"),
        ("spool purge", "spancast spool purge: the following arguments are required: NAME"),
        ("spool replay", "spancast spool replay: the following arguments are required: NAME, --since"),
        ("spool flush here there", "spancast spool flush: unknown argument: there"),
        ("traces --sesion 5", "spancast traces: unknown arguments: --sesion 5"),
    ],
)
def test_wrong_arguments_give_message_and_example(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(message)
    assert rest[-1].startswith("  see `spancast")
    assert len(rest) == 1 or rest[0].startswith("  example: spancast ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("spool purge her", "unknown destination `her`; did you mean `here`?"),
        ("spool purge 7", "expected the NAME of a destination first, got '7'"),
        ("spool purge here x", "expected a number, or a range such as `9-12`"),
        ("spool flush her", "unknown destination `her`; did you mean `here`?"),
        ("spool requeue her", "unknown destination `her`; did you mean `here`?"),
        ("spool replay her --since 1d", "unknown destination `her`; did you mean `here`?"),
    ],
)
def test_wrong_destination_is_named(line: str, message: str, run: Command) -> None:
    pipeline({"here": file("here")}, three)
    run(*line.split(), status=2)
    assert run.err.startswith(f"spancast: {message}")


def test_numbers_may_follow_an_option(run: Command) -> None:
    pipeline({"here": file("here")}, three)
    run("spool", "requeue", "here", "--no-flush", "2", "3", status=1)
    assert run.err == "spancast: none of these spans is dead-lettered; see `spancast spool`\n"
    run("spool", "requeue", "2", status=1)
