from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dialects.streams import json_values

from spancast.dialects.error_body import read_failure
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
