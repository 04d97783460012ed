from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dialects.streams import json_values

from spancast.dialects.error_body import http_error_attributes, read_failure
from spancast.dialects.registry import DIALECTS, find_dialect
from spancast.model.call import Failure
from spancast.model.semconv import OTHER


@pytest.mark.parametrize(
    ("error", "outer", "read"),
    [
        (None, {}, None),
        ({}, {}, None),
        ("", {}, None),
        (7, {}, None),
        ("broken", {}, Failure(type=OTHER, message="broken")),
        ({"message": "m"}, {}, Failure(type=OTHER, message="m")),
        ({"code": 429, "message": "m"}, {}, Failure(type="429", message="m")),
        ({"code": "rate_limit", "type": "t"}, {}, Failure(type="rate_limit")),
        ({"type": "overloaded_error", "message": "m"}, {}, Failure(type="overloaded_error", message="m")),
        ({"type": "api_error", "error_type": "server"}, {}, Failure(type="server")),
        ({"code": 502, "metadata": {"error_type": "timeout"}}, {}, Failure(type="timeout")),
        ({"code": "server_error"}, {"error_type": "authentication"}, Failure(type="authentication")),
        ({"http_status": 404, "message": "m"}, {}, Failure(type="404", message="m")),
        ({"code": "The key sk-123 is wrong", "type": "invalid"}, {}, Failure(type="invalid")),
        ({"code": 123456}, {}, Failure(type=OTHER)),
        ({"code": True, "message": 5}, {}, Failure(type=OTHER)),
    ],
)
def test_read_failure_shapes(error: Any, outer: dict[str, Any], read: Failure | None):
    assert read_failure(error, outer) == read


def test_read_failure_without_error_field():
    assert read_failure(None, {"error_type": "server"}, is_failed=True) == Failure(type="server")


@given(error=json_values, outer=st.dictionaries(st.sampled_from(["error_type", "x"]), json_values))
def test_read_failure_type_is_a_code_for_any_input(error: Any, outer: dict[str, Any]):
    failure = read_failure(error, outer)
    assert failure is None or (len(failure.type) <= 64 and " " not in failure.type)


class SDKError(Exception):
    def __init__(self, body: object, **fields: object) -> None:
        super().__init__("failed")
        self.body = body
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("body", "kind", "rest"),
    [
        ({"message": "no", "type": "invalid_request_error", "code": "model_not_found", "param": "model"},
         "model_not_found", {"type": "invalid_request_error", "param": "model"}),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "overloaded_error", None),
        ({"message": "no", "code": "tool_use_failed", "failed_generation": "{}"}, "tool_use_failed", {"failed_generation": "{}"}),
        ({"message": "no", "code": "content_filter", "innererror": {"code": "Policy"}}, "content_filter", {"innererror": {"code": "Policy"}}),
        ({"error": {"code": 429, "message": "no", "metadata": {"raw": "slow", "provider_name": "X"}}}, "429",
         {"metadata": {"raw": "slow", "provider_name": "X"}}),
        ('{"error": {"code": 402, "metadata": {"error_type": "payment_required"}}}', "payment_required",
         {"code": 402, "metadata": {"error_type": "payment_required"}}),
        (b"<html>", None, None),
        ("not json", None, None),
        (None, None, None),
        ([1], None, None),
        ({"message": "no code"}, None, None),
    ],
)  # fmt: skip
def test_http_error_attributes_have_the_code_and_the_rest_of_the_body(
    body: object, kind: str | None, rest: object
) -> None:
    found = http_error_attributes(SDKError(body, status_code=400))
    assert found.get("error.type") == kind
    assert found["spancast.response.status_code"] == 400
    given = found.get("spancast.response.error")
    assert (None if given is None else json.loads(str(given))) == rest


def test_http_error_attributes_of_a_rejected_answer_do_not_read_it_as_an_error() -> None:
    found = http_error_attributes(SDKError({"type": "message", "content": []}, status_code=200))
    assert found == {"spancast.response.status_code": 200}


def test_http_error_attributes_of_an_error_event_have_its_code() -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}, "request_id": "req_1"}
    found = http_error_attributes(SDKError(body, status_code=200))
    assert found["error.type"] == "overloaded_error"
    assert found["spancast.response.request_id"] == "req_1"


def test_an_error_has_the_same_type_raised_and_in_a_response() -> None:
    # The exceptions of botocore have no body: tests/instrumentation/test_bedrock.py.
    for name in DIALECTS.keys() - {"bedrock_converse", "bedrock_invoke"}:
        dialect = find_dialect(name)
        assert dialect is not None
        error = {"type": "server_error", "code": "upstream_error", "message": "died", "raw": "x"}
        read = dialect.read_response({"error": error}, content=True)
        raised = dialect.error_attributes(SDKError({"error": error}))
        assert read.failure is not None, name
        assert read.failure.type == raised["error.type"] == "upstream_error"
        assert (
            read.attributes["spancast.response.error"]
            == raised["spancast.response.error"]
            == '{"type":"server_error","raw":"x"}'
        )
