"""Every snippet of README.md and docs/ does what it stands for, and every link leads somewhere.

Programs call a replay server, and every request that it gets has one span, in the local store or at a collector.
"""

from __future__ import annotations

import http.client
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import nbformat
import pytest
import yaml
from tests.ports import own_port
from tests.programs import ROOT, Receiver, environment, output, running_receiver
from tests.snippets import RUN, Section, Snippet, sections

from spancast.testing import ReplayServer

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_FRAMEWORKS = "frameworks.md"
"""tests/frameworks runs its snippets, in environments with the frameworks."""
SECTIONS = [one for page in PAGES if page.name != WITH_FRAMEWORKS for one in sections(page)]
APP = """\
import openai

import spancast

spancast.instrument()
answer = openai.OpenAI().chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi"}])
"""
"""The `app.py` of commands."""
PORT = "8000"
"""The port of servers in the documentation."""
WHOLE_URL = re.compile(r"(?:https?://)?localhost:431[78]")
VARIABLE = re.compile(r"\$\{env:(\w+)\}")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory after `spancast demo`."""
    state = tmp_path_factory.mktemp("demo")
    with ReplayServer() as unused:
        output(["spancast", "demo"], environment(unused, state), state)
    return state


def runnable(section: Section) -> bool:
    return any(one.language in RUN and not one.not_run for one in section.snippets)


@pytest.mark.parametrize(
    "section", [one for one in SECTIONS if runnable(one)], ids=lambda one: f"{one.page}: {one.heading}"
)
def test_section_runs(section: Section, server: ReplayServer, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if any(one.language == "sql" for one in section.snippets):
        shutil.copytree(request.getfixturevalue("demo"), tmp_path / "state")
    with running_receiver() as receiver:
        reader = Reader(section, server, receiver, tmp_path)
        reader.follow()
        reader.check_spans()


class Reader:
    """A reader of a section, who does what its snippets show."""

    def __init__(self, section: Section, server: ReplayServer, receiver: Receiver, folder: Path) -> None:
        self.section, self.server, self.receiver = section, server, receiver
        self.state, self.folder = folder / "state", folder / "work"
        self.folder.mkdir()
        (self.folder / "app.py").write_text(APP)
        self.environment = environment(server, self.state, PYTHONPATH=str(self.folder), PYTHONWARNINGS="ignore")
        self.printed = ""

    def follow(self) -> None:
        if self.section.heading == "Notebooks":
            self.follow_notebook()
            return
        for snippet in self.section.snippets:
            if snippet.language == "text":
                assert_prints(self.printed, snippet.code)
            elif snippet.language in RUN and not snippet.not_run:
                getattr(self, f"follow_{snippet.language}")(snippet)

    def follow_python(self, snippet: Snippet) -> None:
        code = self.local(snippet.before + "\n" + snippet.code if snippet.before else snippet.code)
        file = self.folder / (snippet.file or "snippet.py")
        file.write_text(code)
        mentions = re.compile(rf"\b{re.escape(file.stem)}\b")
        others = [one.code for one in self.section.snippets if one is not snippet and not one.not_run]
        if not snippet.file or not any(mentions.search(code) for code in others):
            self.printed = output([sys.executable, str(file)], self.environment, self.folder)

    def follow_notebook(self) -> None:
        cells = [nbformat.v4.new_code_cell(one.code) for one in self.section.snippets if one.language == "python"]
        notebook = nbformat.v4.new_notebook(cells=cells)
        file = self.folder / "notebook.ipynb"
        nbformat.write(notebook, file)
        (self.folder / "run.py").write_text(
            "import jupyter_client, nbclient, nbformat\n"
            "kernel = jupyter_client.AsyncKernelManager(transport='ipc')\n"
            "nbclient.NotebookClient(nbformat.read('notebook.ipynb', 4), km=kernel).execute()\n"
        )
        # The kernel has warnings of its own.
        output(["bash", "-c", "python run.py 2> log || { cat log; exit 1; }"], self.environment, self.folder)

    def follow_bash(self, snippet: Snippet) -> None:
        if snippet.serves:
            self.serve(snippet)
        else:
            self.printed = output(["bash", "-e", "-c", self.local(snippet.code)], self.environment, self.folder)

    def follow_yaml(self, snippet: Snippet) -> None:
        parts = list(yaml.safe_load_all(snippet.code))
        if all(isinstance(part, dict) and part.keys() & {"apiVersion", "services"} for part in parts):
            return
        file = self.folder / (snippet.file or "spancast.yaml")
        file.write_text(self.local(snippet.code))
        self.environment |= dict.fromkeys(VARIABLE.findall(snippet.code), "a-value")
        text = file.read_text()
        if "destinations:" not in text:
            text += "destinations: {screen: {type: console}}\n"
        checked = self.folder / "checked.yaml"
        checked.write_text(text)
        assert ": valid; " in output(["spancast", "check", "--offline", str(checked)], self.environment, self.folder)

    def follow_sql(self, snippet: Snippet) -> None:
        with closing(sqlite3.connect(self.state / "spancast" / "spans.db")) as store:
            cursor = store.execute(snippet.code)
            rows = cursor.fetchall()
            assert rows, snippet.code
            assert all(any(value is not None for value in row) for row in rows)
            self.printed = "\n".join(" | ".join(map(str, row)) for row in rows)

    def serve(self, snippet: Snippet) -> None:
        """Start the server, request its URL, and end it by SIGTERM, as an orchestrator does."""
        port, log = str(own_port()), self.folder / "server.log"
        command, url = (self.local(text).replace(PORT, port) for text in (snippet.code, snippet.serves))
        with log.open("w") as out:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], env=self.environment, cwd=self.folder, stdout=out, stderr=out
            )
        try:
            for _ in range(4):
                self.request(url, process, log)
        finally:
            process.terminate()
            process.wait(60)
        if (self.folder / "spancast.yaml").exists():
            # A busy machine may leave spans in the spool for the next process.
            output(["spancast", "spool", "flush"], self.environment, self.folder)

    def request(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        """Request ``url`` until the server answers, or wait for the ``1 call`` of a worker."""
        give_up_s, pause = time.monotonic() + 120, threading.Event()
        while time.monotonic() < give_up_s:
            assert process.poll() is None, log.read_text()
            if not url.startswith("http"):
                if len(self.server.requests) == int(url.split(maxsplit=1)[0]):
                    return
            else:
                try:
                    with urllib.request.urlopen(url, timeout=60) as response:
                        response.read()
                        return
                except urllib.error.HTTPError:
                    pytest.fail(log.read_text())
                except (OSError, http.client.HTTPException):
                    pass  # it starts
            pause.wait(0.05)
        pytest.fail(log.read_text())

    def local(self, code: str) -> str:
        """Return ``code`` with the addresses of a collector replaced by that of the receiver."""
        return WHOLE_URL.sub(self.receiver.endpoint, code)

    def check_spans(self) -> None:
        """Every request to the provider has one span."""
        recorded = {span.span_id.hex() for span in self.receiver.spans if span.kind == 3}
        for path in [*self.state.rglob("*.db"), *self.folder.rglob("*.db")]:
            with closing(sqlite3.connect(path)) as store:
                recorded |= {row[0] for row in store.execute("SELECT span_id FROM spans WHERE model IS NOT NULL")}
        code = "".join(one.code for one in self.section.snippets)
        if '"enabled": False' in code:
            assert not recorded
        elif not re.search("spancast demo|^SELECT|^WITH", code, re.MULTILINE) and "@spancast.instrument" not in code:
            assert len(recorded) == len(self.server.requests)


def assert_prints(printed: str, shown: str) -> None:
    """``…`` in the shown output stands for anything."""
    pattern = ".*?".join(map(re.escape, textwrap.dedent(shown).strip().split("…")))
    assert re.fullmatch(pattern, printed.strip(), re.DOTALL), f"printed:\n{printed}\nshown:\n{shown}"


def test_languages_of_snippets_are_known() -> None:
    used = {one.language for section in SECTIONS for one in section.snippets}
    assert used == {*RUN, "text", ""}


LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_of_pages_lead_somewhere() -> None:
    broken = []
    for page in [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target, anchor in LINK.findall(re.sub(r"`[^`\n]+`", "", page.read_text())):
            path = (page.parent / target) if target else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{page.name}: {target}#{anchor}")
    assert not broken, broken


def test_index_and_site_name_every_page() -> None:
    index, site = (ROOT / "docs" / "README.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    names = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert not {name for name in names if f"({name})" not in index or name not in site}


def test_every_environment_variable_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    read = re.compile(r"\"((?:OTEL|SPANCAST|XDG)_[A-Z_]*[A-Z])\"|environ\.get\(\"(\w+)\"")
    names = {
        name
        for source in (ROOT / "src" / "spancast").rglob("*.py")
        for found in read.findall(source.read_text())
        for name in found
        if name and name != "PYTHONPATH"
    }
    assert names, "the rule finds nothing any more"
    assert not {name for name in names if name not in page}
