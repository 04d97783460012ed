"""Every page on the demo's conversation, in a real Chromium."""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from tests.destinations.spans import conversation, span
from tests.destinations.test_store_index import call
from tests.ui.served import ROOT, Reader, served

from spancast.destinations.span_store import Store
from spancast.model import semconv
from spancast.model.json_codec import encode


def open_trace(reader: Reader) -> None:
    reader.open("/")
    reader.follow("Support")


def pick(reader: Reader, name: str) -> None:
    """Select a call of the tree."""
    reader.page.locator(".tree a", has=reader.page.get_by_text(name, exact=True)).click()
    expect(reader.page.locator("#call h2")).to_have_text(name)


def tab(reader: Reader, name: str) -> None:
    reader.page.locator("[data-tab]", has_text=name).click()
    expect(reader.page.locator("[data-tab][aria-current]")).to_have_text(name)


def test_list_row_has_question_answer_and_sums(reader: Reader) -> None:
    reader.open("/")
    row = reader.text("[data-row]")
    assert re.match(r"\d+ \w+ \d\d:\d\d:\d\d Support ✗ rate_limit_exceeded Where is my order 7781\? → 5/5 ", row)
    assert "openai/gpt-5.2 +2 6 calls chat-42 u-7 316 → 43 ~$0.004405 " in row


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?q=arriv", 1),
        ("?q=%22should+arrive%22", 1),
        ("?q=%22arrive+should%22", 0),
        ("?q=nothing", 0),
        ("?model=claude", 1),
        ("?model=llama", 0),
        ("?where=feature%3Dbilling+tier%3D2", 1),
        ("?where=feature%3Dmail", 0),
        ("?session=chat-42&user=u-7&status=error&provider=openrouter", 1),
        ("?status=ok", 0),
        ("?min_cost=0.004", 1),
        ("?min_cost=0.005", 0),
        ("?min_s=3600", 0),
        ("?since=1d", 1),
        ("?q=arrive&model=claude-sonnet-5", 1),
        ("?q=arrive&status=ok", 0),
    ],
)
def test_list_filter_selects(reader: Reader, query: str, count: int) -> None:
    assert reader.open(f"/{query}").locator("[data-row]").count() == count


def test_list_wrong_filter_is_explained(reader: Reader) -> None:
    reader.open("/?since=yesterday&min_cost=much&where=feature")
    assert "since: must be a duration" in reader.text()
    assert "min_cost: could not convert" in reader.text()
    assert "where: expected key=value, got 'feature'" in reader.text()


def test_list_new_call_appears_by_itself(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    context = browser.new_context()
    with served(store.path) as address:
        reader = Reader(context, address)
        assert "No trace yet" in reader.open("/").locator("main").inner_text()
        store.write(conversation())
        expect(reader.page.locator("[data-row]")).to_have_count(1)
        store.write([span("Other", 9, trace_id="5c" * 16, attributes={})])
        expect(reader.page.locator("[data-row]")).to_have_count(2)
    context.close()


def test_list_column_of_a_custom_key(reader: Reader) -> None:
    page = reader.open("/?col=feature&col=tier")
    assert page.locator("th").all_inner_texts()[4:6] == ["feature", "tier"]
    assert "billing" in reader.text("[data-row]")


def test_trace_tree_and_call(reader: Reader) -> None:
    open_trace(reader)
    names = [text.split("\n")[0] for text in reader.page.locator(".tree a").all_inner_texts()]
    assert names == [
        "Support", "triage", "classify", "choose tool", "answer", "draft", "draft, again", "rephrase", "check",
        "rate the answer",
    ]  # fmt: skip
    assert "session chat-42" in reader.text(".head")
    # The first call is selected.
    assert reader.text("#call h2") == "classify"
    assert "openai/gpt-5.2" in reader.text(".facts")
    assert "cost $0.000145 as charged" in reader.text(".facts")


def test_trace_tool_call_has_the_result_of_the_next_call(reader: Reader) -> None:
    open_trace(reader)
    pick(reader, "choose tool")
    assert re.search(
        r'tool call: look_up_order call_1 order_id: "7781" result, sent with draft .* later status: "shipped"',
        reader.text("#call"),
    )


def test_trace_names_what_is_new_since_the_previous_call(reader: Reader) -> None:
    open_trace(reader)
    pick(reader, "draft")
    text = reader.text("#call")
    assert "2 messages as in call 2, “choose tool”" in text
    assert re.search(r'new since call 2, “choose tool” tool result of look_up_order call_1 status: "shipped"', text)
    assert "rate_limit_exceeded Error code: 429" in text
    pick(reader, "draft, again")
    assert reader.text("details.old summary") == "the 3 messages of call 3, “draft” again, nothing new"


def test_trace_tabs(reader: Reader) -> None:
    open_trace(reader)
    pick(reader, "rephrase")
    tab(reader, "Parameters and usage")
    assert "max_tokens 200" in reader.text("#call")
    assert "cost.source" in reader.text("#call")
    tab(reader, "Attributes")
    assert "gen_ai.request.model claude-sonnet-5" in reader.text("#call")
    tab(reader, "Where it went")
    assert "local store 10 spans" in reader.text("#call")
    tab(reader, "Copy as…")
    assert "curl http://127.0.0.1" in reader.text("#curl")
    assert "$ANTHROPIC_API_KEY" in reader.text("#curl")
    reader.page.locator("[data-copy=python]").click()
    expect(reader.page.locator("[data-copy=python]")).to_have_text("Copied")
    reader.page.go_back()
    expect(reader.page.locator("[data-tab][aria-current]")).to_have_text("Where it went")


def test_session_is_a_chat_with_sums(reader: Reader) -> None:
    reader.open("/sessions")
    reader.follow("chat-42")
    assert "1 trace 6 calls, 1 failed 316 → 43 tokens ~$0.004405" in reader.text(".head")
    assert reader.page.locator(".turn").count() == 6
    # Repeated messages are not shown again.
    assert reader.text(".content").count("Where is my order 7781?") == 1


def test_session_over_traces_shows_each_message_once(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    session: dict[str, Any] = {semconv.SESSION_ID: "chat/1 & 2"}
    asked = [{"role": "user", "parts": [{"type": "text", "content": "first question"}]}]
    answered = {"role": "assistant", "parts": [{"type": "text", "content": "first answer"}]}
    asked_again = [*asked, answered, {"role": "user", "parts": [{"type": "text", "content": "second question"}]}]
    store.write(
        [
            call(
                1, "", **session, **{semconv.INPUT_MESSAGES: encode(asked), semconv.OUTPUT_MESSAGES: encode([answered])}
            ),
            call(2, "", "second answer", **session, **{semconv.INPUT_MESSAGES: encode(asked_again)}),
        ]
    )
    context = browser.new_context()
    with served(store.path) as address:
        reader = Reader(context, address)
        reader.open(f"/trace/{2:032x}")
        assert re.search(
            r"2 messages as in call 1, “chat” new since call 1, “chat” user second question assistant second answer",
            reader.text("#call"),
        )
        reader.open("/sessions").locator(".name").click()
        chat = reader.text(".content")
        texts = ["first question", "first answer", "second question", "second answer"]
        assert [chat.count(text) for text in texts] == [1, 1, 1, 1]
        assert sorted(texts, key=chat.index) == texts
        reader.page.get_by_role("button", name="Delete").click()
        expect(reader.page.locator(".empty")).to_contain_text("No session yet")
        assert reader.wrong == []
    context.close()


def test_compare_marks_what_differs(reader: Reader) -> None:
    open_trace(reader)
    pick(reader, "draft")
    reader.follow("Compare with call 2, “choose tool”")
    differing = reader.page.locator(".differs td:first-child").all_inner_texts()
    assert "tools" in differing
    assert "temperature" not in differing


def test_totals_by_model_and_day(reader: Reader) -> None:
    page = reader.open("/totals?by=model")
    assert reader.text("tfoot").split()[:3] == ["all", "6", "1"]
    rows = [" ".join(row.split()) for row in page.locator("[data-row]").all_inner_texts()]
    assert [row.split()[:3] for row in rows] == [
        ["openai/gpt-5.2", "4", "1"], ["claude-sonnet-5", "1", rows[1].split()[2]],
        ["mistralai/mistral-large", "1", rows[2].split()[2]],
    ]  # fmt: skip
    assert reader.open("/totals?by=feature").locator("[data-row]").all_inner_texts()[0].startswith("billing")
    assert reader.open("/totals").locator("[data-row]").count() == 1


def test_chunks_of_a_stream_are_drawn(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    times = [0.01, 0.02, 0.075]
    store.write([call(1, "slow", **{semconv.RESPONSE_CHUNK_TIMES: times, semconv.RESPONSE_TIME_TO_FIRST_CHUNK: 0.01})])
    odd: dict[str, Any] = {semconv.RESPONSE_CHUNK_TIMES: ["x"]}
    store.write([call(2, "no time", **odd)])
    context = browser.new_context(java_script_enabled=False)
    with served(store.path) as address:
        reader = Reader(context, address)
        reader.open(f"/trace/{1:032x}")
        assert reader.text(".chunks") == "3 chunks, longest pause 55 ms, before chunk 3"
        ticks = reader.page.locator(".chunks rect:not(.pause)")
        assert [ticks.nth(one).get_attribute("x") for one in range(3)] == ["10.0%", "20.0%", "75.0%"]
        assert reader.open(f"/trace/{2:032x}").locator(".chunks").count() == 0
        assert reader.wrong == []
    context.close()


def test_session_page_names_each_trace_and_repeats_its_question(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    session: dict[str, Any] = {semconv.SESSION_ID: "s"}
    store.write([call(number, "Where is my order?", f"answer {number}", **session) for number in (1, 2)])
    context = browser.new_context()
    with served(store.path) as address:
        reader = Reader(context, address)
        reader.open("/session?id=s")
        text = reader.text()
        assert text.count("Where is my order?") == 2
        assert text.index("answer 1") < text.rindex("Where is my order?") < text.index("answer 2")
        assert reader.page.locator("h3.part").count() == 2
        assert reader.page.locator(".turn > .who > b").all_inner_texts() == ["1", "2"]
        assert "again, nothing new" in reader.open(f"/trace/{2:032x}").locator("details.old summary").inner_text()
        assert "call 1, “chat” again" in reader.text("details.old summary")
    context.close()


def test_error_of_a_call_is_counted_once_with_the_spans_around_it(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    own: dict[str, Any] = {semconv.SESSION_ID: "s", semconv.ERROR_TYPE: "context_length_exceeded"}
    failed = dataclasses.replace(call(1, "too long", **own), status="error", parent_span_id="0a" * 8)
    around = dataclasses.replace(
        failed,
        name="Summarise",
        span_id="0a" * 8,
        parent_span_id="",
        attributes={semconv.ERROR_TYPE: "BadRequestError"},
    )
    store.write([failed, around])
    context = browser.new_context()
    with served(store.path) as address:
        reader = Reader(context, address)
        reader.open("/")
        assert "Summarise ✗ context_length_exceeded too long" in reader.text("[data-row]")
        reader.open(f"/trace/{1:032x}")
        assert "1 call, 1 failed" in reader.text(".head")
        assert "✗ 1 failed" in reader.open("/sessions").locator("[data-row]").inner_text()
        assert reader.wrong == []
    context.close()


def test_tool_result_of_the_next_trace_and_numbers_of_calls(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    session: dict[str, Any] = {semconv.SESSION_ID: "s"}
    asked = [{"role": "user", "parts": [{"type": "text", "content": "money back?"}]}]
    refund = {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "call_0", "name": "refund", "arguments": {"sku": "A-17"}}],
    }
    result = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_0", "response": {"state": "paid"}}]}
    store.write(
        [
            call(
                1, "", **session, **{semconv.INPUT_MESSAGES: encode(asked), semconv.OUTPUT_MESSAGES: encode([refund])}
            ),
            call(2, "", "done", **session, **{semconv.INPUT_MESSAGES: encode([*asked, refund, result])}),
        ]
    )
    context = browser.new_context()
    with served(store.path) as address:
        reader = Reader(context, address)
        # Both traces are in the index.
        reader.open("/").locator("[data-row]").nth(1).wait_for()
        reader.open(f"/trace/{1:032x}")
        assert re.search(
            r'refund call_0 sku: "A-17" result, sent with chat .* later state: "paid"', reader.text("#call")
        )
        reader.page.get_by_role("link", name="call 1").click()
        reader.page.wait_for_url("**/session?id=s#call-1")
        assert reader.text("#call-2 .who").startswith("2 chat ")
        assert "new since call 1, “chat” tool result of refund" in reader.text("#call-2")
        assert reader.wrong == []
    context.close()


def test_masked_texts_are_named(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    store.write([call(1, "I am [mail], not [mail]")])
    context = browser.new_context()
    with served(store.path, replacements=("[mail]", "[masked]")) as address:
        reader = Reader(context, address)
        reader.open(f"/trace/{1:032x}")
        assert reader.page.locator(".note").all_inner_texts() == ["masked, shown as [mail]: gen_ai.input.messages (2)"]
    context.close()


def test_sums_have_the_tokens_from_the_cache(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    usage: dict[str, Any] = {
        semconv.USAGE_INPUT_TOKENS: 4_000,
        semconv.USAGE_OUTPUT_TOKENS: 1,
        semconv.USAGE_CACHE_READ: 1_024,
    }
    store.write([call(number, "x", **{semconv.SESSION_ID: "s"}, **usage) for number in (1, 2)])
    context = browser.new_context()
    with served(store.path) as address:
        reader = Reader(context, address)
        reader.open(f"/trace/{1:032x}")
        assert "4,000 → 1 tokens, 1,024 from cache" in reader.text(".head")
        reader.open("/session?id=s")
        assert "8,000 → 2 tokens, 2,048 from cache" in reader.text(".head")
        reader.open("/totals?by=model&since=")
        assert "8,000 → 2 2,048 25 %" in reader.text("[data-row]")
    context.close()


def test_long_message_scrolls_in_its_own_box(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    store.write([call(1, "line\n\n" * 1_000), call(2, "line of a text\n" * 5_000)])
    context = browser.new_context(viewport={"width": 400, "height": 800})
    with served(store.path) as address:
        reader = Reader(context, address)
        for number in (1, 2):
            reader.open(f"/trace/{number:032x}")
            height = reader.page.evaluate("document.documentElement.scrollHeight")
            assert 800 < height < 2_000, number
            # The keyboard can scroll it, too.
            assert reader.page.locator(".long").get_attribute("tabindex") == "0"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_every_page_has_contrast(browser: Browser, demo_page: str, demo_store: Path, scheme: Any) -> None:
    """At least 4.5 to 1 (WCAG 2.2 AA, 1.4.3): text of each element on what is behind it."""
    trace_id = sqlite3.connect(demo_store).execute("SELECT trace_id FROM spans").fetchone()[0]
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    reader = Reader(context, demo_page)
    trace = reader.open(f"/trace/{trace_id}")
    draft = str(trace.locator(".tree a", has=trace.get_by_text("draft", exact=True)).get_attribute("href"))
    paths = ("/", "/?q=arrive", f"{draft}&tab=delivery", f"{draft}&tab=copy", f"{draft}&tab=request", draft, "/session?id=chat-42", "/totals", "/destinations", "/?q=nothing")  # fmt: skip
    for path in paths:
        page = reader.open(path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate(_TOO_FAINT) == [], path
    context.close()


_TOO_FAINT = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((one, at) => (at < 3 ? one : one / 255));
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3]));
  const light = (colour) => {
    const [r, g, b] = colour.map((one) => one / 255).map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => (one ? over(rgba(getComputedStyle(one).backgroundColor), behind(one.parentElement)) : [255, 255, 255]);
  const faint = [];
  for (const one of document.body.querySelectorAll("*")) {
    const hasText = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!hasText || !one.checkVisibility() || one.closest("svg, canvas, script, style")) continue;
    const ground = behind(one), text = over(rgba(getComputedStyle(one).color), ground);
    const [high, low] = [light(text), light(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) faint.push(`${one.tagName}.${one.className} ${one.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return faint;
}"""


def test_totals_by_hour_are_drawn(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    day_ns = 86_400 * 10**9
    first = conversation()
    store.write(first)
    store.write(
        [
            type(one)(**{**{f: getattr(one, f) for f in ("name", "kind", "status", "status_message", "attributes", "span_id", "parent_span_id")}, "trace_id": "6d" * 16, "start_ns": one.start_ns + day_ns, "end_ns": one.end_ns + day_ns})
            for one in first
        ]
    )  # fmt: skip
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    with served(store.path) as address:
        reader = Reader(context, address)
        reader.open("/totals?since=")
        expect(reader.page.locator("[data-chart] canvas")).to_have_count(4)
        assert reader.wrong == []
    context.close()


def test_every_page_at_400_px_and_in_the_dark(browser: Browser, demo_page: str, demo_store: Path) -> None:
    trace_id = sqlite3.connect(demo_store).execute("SELECT trace_id FROM spans").fetchone()[0]
    context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme="dark")
    reader = Reader(context, demo_page)
    for path in ("/", f"/trace/{trace_id}", f"/trace/{trace_id}?tab=attributes", f"/trace/{trace_id}?tab=copy", "/sessions", "/session?id=chat-42", "/totals", "/totals?by=model", "/destinations"):  # fmt: skip
        reader.open(path)
        assert not reader.is_too_wide(), path
    assert reader.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 22)"
    assert reader.wrong == []
    context.close()


def test_list_and_trace_are_readable_without_scripts(browser: Browser, demo_page: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    reader = Reader(context, demo_page)
    open_trace(reader)
    reader.page.locator(".tree a", has_text="choose tool").click()
    assert "look_up_order" in reader.text("#call")
    reader.page.locator("[data-tab]", has_text="Attributes").click()
    assert "gen_ai.request.model" in reader.text("#call")
    context.close()


def test_every_filter_is_reached_at_400_px_without_scripts(browser: Browser, demo_page: str) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 800}, java_script_enabled=False)
    page = Reader(context, demo_page).open("/")
    user = page.get_by_role("textbox", name="user")
    expect(user).to_be_hidden()
    page.keyboard.press("Tab")
    page.get_by_label("More filters").focus()
    page.keyboard.press("Space")
    user.fill("u-8")
    user.press("Enter")
    expect(page.locator(".empty")).to_contain_text("No trace matches")
    # One that is set stays in view.
    expect(user).to_have_value("u-8")
    context.close()


def test_keyboard_alone_reaches_a_call(reader: Reader) -> None:
    page = reader.open("/")
    page.keyboard.press("/")
    page.keyboard.type("arrive")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=arrive")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/trace/*")
    for _ in range(2):
        page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("#call h2")).to_have_text("answer")
    page.keyboard.press("3")
    expect(page.locator("[data-tab][aria-current]")).to_have_text("Attributes")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    page.wait_for_url("**/?q=arrive")


def test_selection_as_file(reader: Reader) -> None:
    page = reader.open("/?model=claude-sonnet-5")
    with page.expect_download() as jsonl:
        page.get_by_role("link", name="JSONL").click()
    lines = Path(jsonl.value.path()).read_text().splitlines()
    assert sorted(json.loads(line)["name"] for line in lines)[:2] == ["Support", "answer"]
    with page.expect_download() as table:
        page.get_by_role("link", name="CSV").click()
    head, row = Path(table.value.path()).read_text().splitlines()
    assert head.startswith("start,trace_id,name,session,user,models")
    assert ",Support,chat-42,u-7," in row


def test_trace_as_one_file_needs_no_server(reader: Reader, browser: Browser, tmp_path: Path) -> None:
    open_trace(reader)
    tab(reader, "Copy as…")
    with reader.page.expect_download() as file:
        reader.page.get_by_role("link", name="The trace as one HTML file").click()
    saved = tmp_path / "trace.html"
    saved.write_bytes(Path(file.value.path()).read_bytes())
    context = browser.new_context(offline=True)
    alone = Reader(context, saved.as_uri())
    alone.open("")
    assert "Good news! It has shipped" in alone.text("body")
    assert "look_up_order" in alone.text("body")
    assert alone.wrong == []
    context.close()


def test_delete_trace_removes_it_from_store_and_index(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    store.write([*conversation(), span("Other", 9, trace_id="5c" * 16, attributes={})])
    context = browser.new_context()
    with served(store.path) as address:
        reader = Reader(context, address)
        reader.open("/")
        reader.follow("Order Processing Pipeline")
        tab(reader, "Copy as…")
        reader.page.get_by_role("button", name="Delete this trace").click()
        expect(reader.page.locator("[data-row]")).to_have_count(1)
        assert reader.confirmed == ["Delete this trace from the local store?"]
        assert [one.name for one in store.traces()] == ["Other"]
        index = sqlite3.connect(tmp_path / "spans-index.db")
        assert index.execute("SELECT count(*) FROM texts WHERE texts MATCH 'Process'").fetchone() == (0,)
        index.close()
        reader.open("/destinations").get_by_role("button", name="Delete every trace").click()
        expect(reader.page.locator(".empty")).to_contain_text("No trace yet")
        assert reader.wrong == []
    context.close()


def test_pictures_of_the_documentation(reader: Reader) -> None:
    """Not compared: fonts differ between machines. ``SPANCAST_PICTURES=1`` writes them."""
    import os

    reader.page.set_viewport_size({"width": 1280, "height": 720})
    open_trace(reader)
    pick(reader, "draft")
    picture = reader.page.screenshot()
    assert picture.startswith(b"\x89PNG")
    if os.environ.get("SPANCAST_PICTURES"):
        (ROOT / "docs" / "page.png").write_bytes(picture)
