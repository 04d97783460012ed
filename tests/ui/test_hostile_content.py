"""Recorded text is untrusted: scripts in every field, ANSI, reversed text, 10 MB messages. In a real Chromium."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from tests.destinations.spans import START_NS
from tests.ui.served import Reader, served

from spancast.destinations.span_store import Store
from spancast.encoding.span_data import EventData, ResourceData, SpanData
from spancast.model import semconv
from spancast.model.json_codec import encode

ATTACKS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=\'owned\'">',
    "'-alert(1)-'",
    "[click](javascript:document.title='owned') ![i](http://192.0.2.1/pixel.png)",
    "{{ 7 * 7 }}{% raw %}",
    "</textarea></pre></details></main><base href=//192.0.2.1><form action=http://192.0.2.1>",
)
ATTACK = " ".join(ATTACKS)
ANSI = "\x1b[31mred\x1b[0m \x1b]0;title\x07"
REVERSED = "safe \u202egnp.exe"
SURROGATE = "half \ud83d"
TRACE_ID = "7a" * 16


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def hostile() -> SpanData:
    """A call whose every field is an attack."""
    arguments = {ATTACK: [ATTACK, {ATTACK: ATTACK}], "ansi": ANSI}
    inputs = [
        {"role": ATTACK, "parts": [text(ATTACK), text(ANSI), text(REVERSED)]},
        {
            "role": "user",
            "parts": [{"type": "uri", "modality": ATTACK, "uri": f"http://192.0.2.1/{ATTACK}", "mime_type": ATTACK}],
        },
        {"role": "assistant", "parts": [{"type": "tool_call", "id": ATTACK, "name": ATTACK, "arguments": arguments}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": ATTACK, "response": encode(arguments)}]},
        {"role": "user", "parts": [{"type": ATTACK, ATTACK: ATTACK}, "odd", None, 7]},
    ]
    return SpanData(
        trace_id=TRACE_ID, span_id="7b" * 8, parent_span_id="", name=ATTACK, kind=3, start_ns=START_NS, end_ns=START_NS + 10**9,
        status="error", status_message=ATTACK,
        attributes={
            semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: ATTACK, semconv.RESPONSE_MODEL: ATTACK,
            semconv.OPENAI_API_TYPE: "chat_completions", semconv.SERVER_ADDRESS: "x'; touch /tmp/owned; '",
            semconv.PROVIDER_NAME: ATTACK, semconv.SESSION_ID: ATTACK, semconv.USER_ID: ATTACK, semconv.TRACE_NAME: ATTACK,
            semconv.ERROR_TYPE: ATTACK, semconv.RESPONSE + "error": encode({ATTACK: ATTACK}),
            semconv.TRACE_METADATA + ATTACK: ATTACK, semconv.PROBLEMS: [ATTACK], ATTACK: ATTACK,
            semconv.REQUEST + ATTACK: ATTACK, semconv.INPUT_MESSAGES: encode(inputs),
            semconv.OUTPUT_MESSAGES: encode([{"role": "assistant", "parts": [text(ATTACK), {"type": "reasoning", "content": ATTACK}], "finish_reason": ATTACK}]),
        },
        events=(EventData(name="exception", at_ns=START_NS, attributes={semconv.EXCEPTION_MESSAGE: ATTACK, semconv.EXCEPTION_STACKTRACE: ATTACK}),),
        resource=ResourceData({"service.name": ATTACK, ATTACK: ATTACK}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = Store(tmp_path_factory.mktemp("hostile") / "spans.db")
    store.write([hostile()])
    with served(store.path) as address:
        yield address


@pytest.fixture
def reader(browser: Browser, page: str) -> Iterator[Reader]:
    context = browser.new_context(viewport={"width": 400, "height": 800})
    yield Reader(context, page)
    context.close()


@pytest.mark.parametrize(
    "path",
    [
        "/", "/?q=owned", "/sessions", "/totals?by=model", "/totals?by=user", "/destinations",
        *(f"/trace/{TRACE_ID}?tab={tab}" for tab in ("conversation", "request", "attributes", "delivery", "copy")),
        f"/compare?a={TRACE_ID}/x&b={TRACE_ID}/x", f"/?q={ATTACK}&model={ATTACK}&where={ATTACK}&since={ATTACK}&col={ATTACK}",
        f"/trace/{TRACE_ID}?span={ATTACK}&tab={ATTACK}", f"/totals?by={ATTACK}&since={ATTACK}", "/session?id=%3Cscript%3E",
    ],
)  # fmt: skip
def test_page_runs_nothing_of_the_content(reader: Reader, path: str) -> None:
    """No script, no request to another server, no attack as an element; and none as a broken page."""
    opened = reader.open(path)
    opened.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert "owned" not in opened.title() or "<script>" in opened.title()
    made = opened.evaluate(
        "document.querySelectorAll('main script, main img, main base, [onerror], [onload], a[href^=javascript],"
        " form[action^=http], main svg:not([role=img])').length"
    )
    assert made == 0
    assert opened.locator("footer, main").count() == 1
    assert reader.wrong in ([], ["Failed to load resource: the server responded with a status of 404 (Not Found)"])
    if path.startswith("/trace") or path == "/":
        assert "<script>" in opened.locator("main").inner_text()
        assert not reader.is_too_wide()


def test_session_of_a_hostile_name_opens(reader: Reader) -> None:
    reader.open("/sessions").locator(".name").click()
    assert ATTACKS[0] in reader.text(".head h1")
    assert reader.wrong == []


def test_control_characters_are_visible(reader: Reader) -> None:
    reader.open(f"/trace/{TRACE_ID}")
    content = reader.page.content()
    assert "\x1b" not in content
    assert "\u202e" not in content
    assert "␛[31mred" in reader.text("#call")
    assert "safe [U+202E]gnp.exe" in reader.text("#call")


def test_copied_commands_have_no_open_quote(reader: Reader, tmp_path: Path) -> None:
    import ast
    import subprocess

    reader.open(f"/trace/{TRACE_ID}?tab=copy")
    ast.parse(reader.page.locator("#python").text_content() or "")
    # A shell reads one command with its words; `curl` is replaced by a function that prints the last one.
    command = f'curl() {{ printf %s "${{@: -1}}"; }}; cd {tmp_path}; {reader.page.locator("#curl").text_content()}'
    printed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert "document.title" in printed
    assert not Path("/tmp/owned").exists()


def test_message_of_10_mb_is_cut_and_a_click_away(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    long = "word " * 2_000_000 + "end"
    attributes = {**hostile().attributes, semconv.INPUT_MESSAGES: encode([{"role": "user", "parts": [text(long)]}])}
    store.write([dataclasses.replace(hostile(), attributes=attributes)])
    with served(store.path) as address:
        context = browser.new_context()
        reader = Reader(context, address)
        reader.open(f"/trace/{TRACE_ID}")
        assert "10,000,003 characters, the first 20,000 are shown" in reader.text("#call")
        assert len(reader.page.content()) < 500_000
        answer = context.request.get(
            address + str(reader.page.get_by_role("link", name="as recorded").first.get_attribute("href"))
        )
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.text().endswith('word end"}]}]')
        assert reader.open("/?q=end").locator("[data-row]").count() == 1
        context.close()


def test_received_lone_surrogate_is_shown(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    inputs = '[{"role":"user","parts":[{"type":"text","content":"half \\ud83d"}]}]'
    store.write([dataclasses.replace(hostile(), attributes={**hostile().attributes, semconv.INPUT_MESSAGES: inputs})])
    with served(store.path) as address:
        context = browser.new_context()
        reader = Reader(context, address)
        reader.open(f"/trace/{TRACE_ID}")
        assert "half" in reader.text("#call")
        context.close()


def call(number: int, inputs: Any, **more: Any) -> SpanData:
    attributes = {semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: "m", semconv.SESSION_ID: f"s-{number}", **more}
    return SpanData(
        trace_id=f"{number:032x}", span_id=f"{number:016x}", parent_span_id="", name=f"call {number}", kind=3,
        start_ns=START_NS + number * 10**9, end_ns=START_NS + number * 10**9 + 10**8, status="unset", status_message="",
        attributes={**attributes, semconv.INPUT_MESSAGES: inputs if isinstance(inputs, str) else encode(inputs)},
    )  # fmt: skip


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "parts": [text(content)]}


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def asking(arguments: str) -> str:
    """Messages with a tool call whose arguments are this JSON."""
    return f'[{{"role":"assistant","parts":[{{"type":"tool_call","id":"1","name":"t","arguments":{arguments}}}]}}]'


EXTREMES: dict[str, SpanData] = {
    name: call(number, inputs, **more)
    for number, (name, inputs, more) in enumerate(
        [
            ("table of 500,000 cells", [user("|" + "a|" * 60 + "\n|" + "-|" * 60 + "\n" + "|\n" * 9_000)], {}),
            ("10,000 messages", [user(f"message {one}") for one in range(10_000)], {}),
            ("10 MB of markdown", [user("some *text* `x`\n\n" * 600) for _ in range(1_000)], {}),
            ("a list of a million", asking(encode(list(range(1_000_000)))), {}),
            ("text nested 9,000 deep", [user("[" * 9_000 + "]" * 9_000)], {}),
            ("arguments nested 10,000 deep", asking(deep(10_000)), {}),
            ("arguments nested 900 deep", asking(deep(900)), {}),
            ("attributes nested 10,000 deep", [user("x")], {"x": deep(10_000), "y": deep(900)}),
            ("error nested 900 deep", [user("x")], {semconv.RESPONSE + "error": deep(900), "status": "error"}),
            ("3,000 attributes", [user("x")], {f"k{one}": encode({"a": [1, {"b": one}]}) for one in range(3_000)}),
            ("3,000 keys", [user("x")], {f"{semconv.TRACE_METADATA}k{one}": "v" * 50 for one in range(3_000)}),
            ("brackets", [user("[" * 19_000)], {}),
            ("quotes", [user(">" * 19_000)], {}),
            ("null bytes", [user("a\x00b")], {"n\x00": "\x00", semconv.TRACE_NAME: "p\x00q"}),
        ],
        start=1,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def extremes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = Store(tmp_path_factory.mktemp("extremes") / "spans.db")
    store.write(list(EXTREMES.values()))
    with served(store.path) as address:
        yield address


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_content_is_a_page_of_bounded_size(browser: Browser, extremes: str, name: str) -> None:
    """Most of them were pages of many megabytes, which took up to half a minute."""
    trace_id = EXTREMES[name].trace_id
    context = browser.new_context()
    for tab in ("conversation", "request", "attributes", "copy"):
        response = context.request.get(f"{extremes}/trace/{trace_id}?tab={tab}", timeout=30_000)
        assert response.status == 200, tab
        assert len(response.body()) < 3_000_000, tab
    assert context.request.get(f"{extremes}/trace/{trace_id}/page.html", timeout=30_000).status == 200
    reader = Reader(context, extremes)
    assert reader.open(f"/trace/{trace_id}").locator("#call h2").inner_text() == EXTREMES[name].name
    assert reader.wrong == []
    context.close()


def test_trace_of_5000_spans_and_its_session_are_shown(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    own = {semconv.SESSION_ID: "big"}
    first = call(1, [user("x")], **own)
    store.write(
        [
            dataclasses.replace(first, span_id=f"{one + 1:016x}", parent_span_id=f"{(one + 2) // 3:016x}" if one else "", start_ns=first.start_ns + one)
            for one in range(5_000)
        ]
    )  # fmt: skip
    context = browser.new_context()
    with served(store.path) as address:
        reader = Reader(context, address)
        assert reader.open(f"/trace/{first.trace_id}").locator(".tree a").count() == 5_000
        page = reader.open("/session?id=big")
        assert page.locator(".turn").count() == 200
        assert "4,800 more calls are in this trace" in reader.text(".content")
        assert context.request.get(f"{address}/trace/{first.trace_id}/page.html", timeout=60_000).status == 200
        assert reader.wrong == []
    context.close()


def test_markdown_opens_nothing_by_itself(browser: Browser, tmp_path: Path) -> None:
    """Images, links to scripts and data, and the styles of tables, which the policy of the page would reject."""
    store = Store(tmp_path / "spans.db")
    written = (
        "![remote](http://192.0.2.1/a.png) ![data](data:image/svg+xml,<svg/onload=alert(1)>) [x](javascript:alert(1))"
        " [y](vbscript:x) [z](data:text/html,<script>alert(1)</script>) [w](JaVaScRiPt:alert(1)) <javascript:alert(1)>"
        " <http://192.0.2.1/auto> [ref]\n\n[ref]: javascript:alert(1)\n\n| a | b |\n|--:|:-:|\n| 1 | 2 |\n"
    )
    store.write([call(1, [user(written)])])
    context = browser.new_context()
    with served(store.path) as address:
        reader = Reader(context, address)
        page = reader.open(f"/trace/{1:032x}")
        links = page.locator(".text a")
        assert [links.nth(one).get_attribute("href") for one in range(links.count())] == [
            "http://192.0.2.1/a.png", "http://192.0.2.1/auto",
        ]  # fmt: skip
        assert page.locator(".text img").count() == 0
        assert page.locator(".text td.right").inner_text() == "1"
        assert reader.wrong == []
    context.close()
