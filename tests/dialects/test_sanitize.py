from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from openai.types.responses import ResponseOutputText
from tests.dialects.streams import json_values

from spancast.dialects.sanitize import modality, public_url, shallow_copy, to_json_data, to_json_string, unknown_part

RAW = b"\x89PNG" * 20
DATA = base64.b64encode(RAW).decode()
REFERENCE = {
    "type": "uri",
    "modality": "image",
    "uri": f"sha256:{hashlib.sha256(RAW).hexdigest()}",
    "byte_size": len(RAW),
    "mime_type": "image/png",
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("text", "text"),
        ({"a": None, "b": [1, {"c": None}]}, {"b": [1, {}]}),
        (
            ResponseOutputText(type="output_text", text="a", annotations=[]),
            {"type": "output_text", "text": "a", "annotations": []},
        ),
        ({"encrypted_content": "x", "url": "u"}, {"url": "u"}),
        ({"Authorization": "x", "domain_secrets": [1]}, {}),
        (f"data:image/png;base64,{DATA}", REFERENCE),
        ({"image_url": f"data:image/png;base64,{DATA}"}, {"image_url": REFERENCE}),
        ({"source": {"type": "base64", "media_type": "image/png", "data": DATA}}, {"source": REFERENCE}),
        ("data: not a URL", "data: not a URL"),
    ],
)
def test_to_json_data_values(value: Any, expected: Any):
    assert to_json_data(value) == expected


def test_to_json_data_base64_of_unknown_type_is_document():
    expected = to_json_data({"type": "base64", "data": DATA})
    assert (expected["modality"], "mime_type" in expected) == ("document", False)


def test_to_json_string_leaves_clean_text_unchanged():
    assert to_json_string({"a": 1}) == '{"a":1}'
    assert to_json_string({"a": 1, "api_key": "x", "b": None}) == '{"a":1}'


@given(json_values)
def test_to_json_data_is_idempotent(value: Any):
    assert to_json_data(to_json_data(value)) == to_json_data(value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:key@mcp.example.com:8443/a/b?token=x#y", "https://mcp.example.com:8443/a/b"),
        ("https://mcp.example.com", "https://mcp.example.com"),
        ("https://mcp.example.com:port/", None),
        ("relative/path?x=1", "relative/path"),
        (None, None),
        (5, None),
    ],
)
def test_public_url_forms(url: object, expected: str | None):
    assert public_url(url) == expected


@pytest.mark.parametrize(
    ("mime_type", "family"),
    [
        ("image/png", "image"),
        ("audio/wav", "audio"),
        ("application/pdf", "document"),
        (None, "document"),
        (3, "document"),
    ],
)
def test_modality_of_mime_type(mime_type: object, family: str):
    assert modality(mime_type) == family


def test_unknown_part_has_no_convention_type():
    assert unknown_part("datetime", {"type": "datetime", "kind": 1, "no": None}) == {"type": "datetime", "kind": 1}
    assert unknown_part("text", {"type": "text"}) == {"type": "malformed_text"}
    assert unknown_part("unknown", {}) == {"type": "unknown"}


def test_shallow_copy_copies_lists():
    given_value = {"listed": [1], "text": "a"}
    copied = shallow_copy(given_value)
    given_value["listed"].append(2)
    assert copied == {"listed": [1], "text": "a"}
    assert shallow_copy(5) == {}
