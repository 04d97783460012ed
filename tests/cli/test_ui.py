"""``spancast ui``, ``run --ui`` and ``show --html`` as a user starts them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from tests.cli.past import Command
from tests.destinations.spans import TRACE_ID, conversation

from spancast.cli import main
from spancast.destinations.span_store import Store


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a command that serves the page; yield the process and the address that it prints."""
    code = f"import sys; from spancast.cli import main; sys.exit(main({list(arguments)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process, address_in(process.stderr)
    finally:
        process.kill()
        process.communicate()


def address_in(stream: IO[str] | None) -> str:
    assert stream is not None
    for line in stream:
        if found := re.search(r"spancast ui: (http://\S+)", line):
            return found[1]
    raise AssertionError("no address was printed")


def get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return answer.read().decode()


def test_ui_serves_the_store_until_it_is_interrupted() -> None:
    Store(Path("mine.db")).write(conversation())
    with started("ui", "--store", "mine.db", "--port", "0") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert "Order Processing Pipeline" in get(address)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_ui_without_a_store_waits_for_one() -> None:
    with started("ui", "--store", "later.db", "--port", "0") as (process, address):
        assert "No trace yet" in get(address)
        assert not Path("later.db").exists()
        process.terminate()
        assert process.wait(60) == 0


def test_ui_at_another_address_prints_its_token() -> None:
    with started("ui", "--store", "x.db", "--port", "0", "--host", "0.0.0.0") as (_, address):
        assert re.search(r"/\?token=\S{30,}$", address)


def test_ui_port_in_use_is_explained(run: Command) -> None:
    with started("ui", "--store", "x.db", "--port", "0") as (_, address):
        port = address.rpartition(":")[2].strip("/")
        run("ui", "--store", "x.db", "--port", port, status=1)
        assert "cannot listen on 127.0.0.1" in run.err


def test_run_ui_has_the_status_of_the_program() -> None:
    program = "import urllib.request, os; print(os.environ['PYTHONPATH']); raise SystemExit(7)"
    code = f"import sys; from spancast.cli import main; sys.exit(main(['run', '--ui', '--', sys.executable, '-c', {program!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 7, done.stderr
    assert "spancast ui: http://127.0.0.1:" in done.stderr
    assert "auto_instrumentation" in done.stdout


@pytest.mark.parametrize("options", [["--ui"], []])
def test_run_unknown_program_is_127_and_says_nothing_else(options: list[str]) -> None:
    code = f"import sys; from spancast.cli import main; sys.exit(main({['run', *options, '--', 'no-such-program']}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (127, "spancast run: no-such-program: not found\n")


def test_show_html_is_one_page_without_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    Store(Path("mine.db")).write(conversation())
    assert main(["show", TRACE_ID[:8], "--html", "--store", "mine.db"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("<!doctype html>")
    assert "Process this order..." in page
    assert "<script" not in page
    assert "src=" not in page


def test_ui_without_its_packages_names_the_extra(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(Path("mine.db")).write(conversation())
    for name in [one for one in sys.modules if one.startswith(("spancast.ui", "starlette"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for command in (["ui", "--store", "mine.db"], ["show", TRACE_ID, "--html", "--store", "mine.db"]):
        run(*command, status=1)
        assert "pip install 'spancast[ui]' (missing: jinja2)" in run.err
