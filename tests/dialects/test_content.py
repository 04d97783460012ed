from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dialects.streams import check_request

from spancast.dialects.content import (
    generic_part,
    media_part,
    reasoning_part,
    text_part,
    tool_call_part,
    tool_result_part,
)
from spancast.model.call import Request

DATA = b"\xfb\xff\xfe\x00cat"
TEXT = base64.b64encode(DATA).decode()
LONG = base64.b64encode(DATA * 20).decode()


def digest(content: bytes) -> dict[str, Any]:
    return {"uri": f"sha256:{hashlib.sha256(content).hexdigest()}", "byte_size": len(content)}


def check(part: dict[str, Any]) -> None:
    check_request(Request(model=None, messages=[{"role": "user", "parts": [part]}]))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (text_part("hi"), {"type": "text", "content": "hi"}),
        (reasoning_part("so"), {"type": "reasoning", "content": "so"}),
        (tool_result_part("c1", {"a": 1}), {"type": "tool_call_response", "id": "c1", "response": {"a": 1}}),
        (generic_part("new", kind="x", type="y"), {"type": "new", "kind": "x"}),
    ],
)
def test_part_shapes(part: dict[str, Any], expected: dict[str, Any]) -> None:
    assert part == expected
    check(part)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": 1}', {"arguments": {"a": 1}}),
        ("[1]", {"arguments": [1]}),
        ('{"a":', {"arguments": '{"a":'}),
        ("", {"arguments": ""}),
        ({"a": 1}, {"arguments": {"a": 1}}),
        (None, {}),
    ],
)
def test_tool_call_part_arguments(arguments: object, expected: dict[str, Any]) -> None:
    part = tool_call_part("c1", "f", arguments)
    assert part == {"type": "tool_call", "id": "c1", "name": "f", **expected}
    check(part)


def test_tool_call_part_without_id_and_name_is_valid() -> None:
    check(tool_call_part(None, None, None))


@pytest.mark.parametrize(
    ("given_as", "expected"),
    [
        ({"url": "https://x.test/a.png"}, {"type": "uri", "uri": "https://x.test/a.png"}),
        ({"url": "gs://bucket/" + "a" * 80}, {"type": "uri", "uri": "gs://bucket/" + "a" * 80}),
        ({"file_id": "file-1"}, {"type": "file", "file_id": "file-1"}),
        ({"data": TEXT}, {"type": "uri", **digest(DATA)}),
        ({"data": TEXT, "mime_type": "image/png"}, {"type": "uri", "mime_type": "image/png", **digest(DATA)}),
        ({"url": f"data:image/png;base64,{TEXT}"}, {"type": "uri", "mime_type": "image/png", **digest(DATA)}),
        ({"url": f"DATA:image/png;BASE64,{TEXT}"}, {"type": "uri", "mime_type": "image/png", **digest(DATA)}),
        ({"url": f"data:;base64,{TEXT}"}, {"type": "uri", **digest(DATA)}),
        ({"url": "data:text/plain,a%20b"}, {"type": "uri", "mime_type": "text/plain", **digest(b"a b")}),
        ({"url": "data:text/plain;base64,QQ%3D%3D"}, {"type": "uri", "mime_type": "text/plain", **digest(b"A")}),
        ({"url": LONG}, {"type": "uri", **digest(DATA * 20)}),
        ({}, {"type": "uri", "uri": ""}),
    ],
)
def test_media_part_forms(given_as: dict[str, str], expected: dict[str, Any]) -> None:
    part = media_part("image", **given_as)
    assert part == {"modality": "image", **expected}
    check(part)


@pytest.mark.parametrize(
    "written",
    [
        TEXT,
        TEXT.rstrip("="),
        base64.urlsafe_b64encode(DATA).decode(),
        base64.urlsafe_b64encode(DATA).decode().rstrip("="),
        TEXT[:5] + "\r\n" + TEXT[5:] + "\n",
    ],
)
def test_media_part_same_digest_for_every_base64_form(written: str) -> None:
    assert media_part("audio", data=written) == {"type": "uri", "modality": "audio", **digest(DATA)}


@pytest.mark.parametrize("written", ["A", "not base64!", "é", "\ud800"])
def test_media_part_invalid_base64_is_undecodable(written: str) -> None:
    content = written.encode("utf-8", "replace")
    assert media_part("audio", data=written) == {
        "type": "uri", "modality": "audio", **digest(content), "undecodable": True,
    }  # fmt: skip


@given(content=st.binary(min_size=48), as_url=st.booleans())
def test_media_part_never_keeps_data(content: bytes, as_url: bool) -> None:
    written = base64.b64encode(content).decode()
    part = media_part("image", url=written) if as_url else media_part("image", data=written)
    assert part == {"type": "uri", "modality": "image", **digest(content)}


@given(url=st.text(), data=st.none() | st.text())
def test_media_part_any_input_never_raises(url: str, data: str | None) -> None:
    media_part("image", url=url, data=data)
    media_part("image", url=f"data:{url}")
    check(tool_call_part(url, url, data))
