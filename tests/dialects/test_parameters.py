from __future__ import annotations

import math
from typing import Any

import anthropic
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.dialects.streams import json_values

from spancast.dialects import parameters
from spancast.dialects.parameters import Row, read_fields, read_parameters
from spancast.model import semconv
from spancast.model.privacy import without_content

TABLE = {
    "temperature": Row(semconv.REQUEST_TEMPERATURE, parameters.number),
    "max_tokens": Row(semconv.REQUEST_MAX_TOKENS, parameters.integer),
    "stop": Row(semconv.REQUEST_STOP_SEQUENCES, parameters.string_list),
    "service_tier": Row(semconv.OPENAI_REQUEST_SERVICE_TIER, parameters.service_tier),
    "stream": Row(semconv.REQUEST_STREAM, parameters.true_flag),
    "effort": Row(semconv.REQUEST_REASONING_LEVEL, parameters.text),
}


class Preferences(BaseModel):
    order: list[str]
    api_key: str | None = None
    zdr: bool | None = None


def read(body: dict[str, Any]) -> dict[str, Any]:
    return dict(read_parameters(body, TABLE, frozenset({"messages"})))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"temperature": 1}, {semconv.REQUEST_TEMPERATURE: 1.0}),
        ({"max_tokens": 100.0}, {semconv.REQUEST_MAX_TOKENS: 100}),
        ({"stop": "END"}, {semconv.REQUEST_STOP_SEQUENCES: ["END"]}),
        ({"stop": ("a", "b")}, {semconv.REQUEST_STOP_SEQUENCES: ["a", "b"]}),
        ({"stop": []}, {}),
        ({"effort": "low"}, {semconv.REQUEST_REASONING_LEVEL: "low"}),
        ({"stream": True}, {semconv.REQUEST_STREAM: True}),
        ({"stream": False}, {}),
        ({"service_tier": "flex"}, {semconv.OPENAI_REQUEST_SERVICE_TIER: "flex"}),
        ({"service_tier": "auto"}, {}),
        ({"messages": ["skipped"]}, {}),
        ({"temperature": None, "seed": openai.NOT_GIVEN, "stop": openai.omit, "x": anthropic.NOT_GIVEN}, {}),
        (
            {"min_p": 0.1, "logprobs": True, "seed": 3, "route": "a"},
            {
                "spancast.request.min_p": 0.1,
                "spancast.request.logprobs": True,
                "spancast.request.seed": 3,
                "spancast.request.route": "a",
            },
        ),
        ({"models": ["a", "b"]}, {"spancast.request.models": ["a", "b"]}),
        ({"models": []}, {"spancast.request.models": "[]"}),
        ({"mixed": [1, "b"]}, {"spancast.request.mixed": '[1,"b"]'}),
        ({"provider": {"order": ["a"]}}, {"spancast.request.provider": '{"order":["a"]}'}),
        ({"provider": Preferences(order=["a"])}, {"spancast.request.provider": '{"order":["a"]}'}),
        ({"seed": 2**70, "min_p": math.nan}, {"spancast.request.seed": str(2**70), "spancast.request.min_p": "nan"}),
    ],
)
def test_read_parameters_values(body: dict[str, Any], found: dict[str, Any]):
    assert read(body) == found
    assert {name: type(value) for name, value in read(body).items()} == {
        name: type(value) for name, value in found.items()
    }


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"temperature": "hot"}, {"spancast.request.temperature": "hot"}),
        ({"temperature": True}, {"spancast.request.temperature": "true"}),
        ({"temperature": math.inf}, {"spancast.request.temperature": "null"}),
        ({"temperature": 10**400}, {"spancast.request.temperature": str(10**400)}),
        ({"max_tokens": 1.5}, {"spancast.request.max_tokens": "1.5"}),
        ({"max_tokens": 2**63}, {"spancast.request.max_tokens": str(2**63)}),
        ({"stop": [1]}, {"spancast.request.stop": "[1]"}),
        ({"effort": {"a": 1}}, {"spancast.request.effort": '{"a":1}'}),
        ({"stream": "yes"}, {"spancast.request.stream": "yes"}),
        ({"service_tier": 3}, {"spancast.request.service_tier": "3"}),
    ],
)
def test_read_parameters_wrong_type_is_text_under_own_name(body: dict[str, Any], found: dict[str, Any]):
    assert read(body) == found


def test_read_parameters_content_is_filtered_by_name():
    body = {"stop": ["END"], "prediction": {"content": "a"}, "response_format": {"type": "x"}, "text": "t", "seed": 1}
    assert without_content(read(body)) == {"spancast.request.seed": 1}
    assert without_content(read({"stop": 5})) == {}


def test_read_parameters_drops_credentials():
    body = {
        "api_key": "CANARY",
        "X-Api-Key": "CANARY",
        "provider": Preferences(order=["a"], api_key="CANARY"),
        "servers": [{"url": "u", "Authorization": "CANARY", "nested": {"headers": {"a": "CANARY"}, "n": None}}],
    }
    assert read(body) == {
        "spancast.request.provider": '{"order":["a"]}',
        "spancast.request.servers": '[{"url":"u","nested":{}}]',
    }


@given(body=st.dictionaries(st.text(max_size=12) | st.sampled_from(sorted(TABLE)), json_values))
def test_read_parameters_any_body_gives_attributes(body: dict[str, Any]):
    for name, value in read(body).items():
        assert name.startswith(("gen_ai.", "spancast.request.", "openai."))
        kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
        assert len(kinds) == 1
        assert kinds <= {str, bool, int, float}
        assert kinds != {int} or -(2**63) <= value < 2**63


def test_read_fields_of_response():
    answer = {
        "id": "skipped",
        "temperature": 1,
        "max_tokens": "malformed",
        "stop": [],
        "status": "completed",
        "count": 2,
        "nested": {"a": 1},
        "listed": [1],
        "nothing": None,
        "_request_id": "private",
        "unset": openai.NOT_GIVEN,
    }
    found = read_fields(answer, TABLE, frozenset({"id"}))
    assert found == {
        semconv.REQUEST_TEMPERATURE: 1.0,
        "spancast.response.status": "completed",
        "spancast.response.count": 2,
    }
    # An unknown field may quote content, whatever its type.
    assert without_content(found) == {
        semconv.REQUEST_TEMPERATURE: 1.0,
        "spancast.response.status": "completed",
        "spancast.redacted": ["spancast.response.*"],
    }
