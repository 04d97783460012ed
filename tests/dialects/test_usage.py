from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from openai import NOT_GIVEN
from openai.types.responses import ResponseUsage
from tests.dialects.streams import json_values

from spancast.dialects.usage import read_usage
from spancast.model import semconv

TABLE = {
    "input_tokens": semconv.USAGE_INPUT_TOKENS,
    "input_tokens_details": {
        "cached_tokens": semconv.USAGE_CACHE_READ,
    },
}
USAGE = {
    "input_tokens": 5.0,
    "output_tokens": 3,
    "input_tokens_details": {"cached_tokens": 4, "audio": None, "cache_write_tokens": 2},
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 8,
}
READ = {
    "gen_ai.usage.input_tokens": 5,
    "gen_ai.usage.cache_read.input_tokens": 4,
    "spancast.usage.output_tokens": 3,
    "spancast.usage.input_tokens_details.cache_write_tokens": 2,
    "spancast.usage.output_tokens_details.reasoning_tokens": 1,
    "spancast.usage.total_tokens": 8,
}


@pytest.mark.parametrize("usage", [USAGE, ResponseUsage.model_validate(USAGE)])
def test_read_usage_known_and_unknown_paths(usage: object):
    assert read_usage(usage, TABLE) == (READ, {})


def test_read_usage_cost_is_float():
    counts, attributes = read_usage({"cost": 0, "cost_details": {"upstream": 1, "none": None}, "is_byok": True}, TABLE)
    assert [(name, value, type(value)) for name, value in counts.items()] == [
        ("spancast.usage.cost", 0.0, float),
        ("spancast.usage.cost_details.upstream", 1.0, float),
    ]
    assert attributes == {"spancast.usage.is_byok": True}


@pytest.mark.parametrize(
    ("usage", "counts", "attributes"),
    [
        (None, {}, {}),
        (NOT_GIVEN, {}, {}),
        ("many", {}, {}),
        ({"input_tokens": "12"}, {}, {}),
        ({"input_tokens": True, "input_tokens_details": 3}, {"spancast.usage.input_tokens_details": 3}, {}),
        ({"share": 0.5, "speed": "fast"}, {"spancast.usage.share": 0.5}, {"spancast.usage.speed": "fast"}),
        ({"nan": math.nan}, {}, {"spancast.usage.nan": "nan"}),
        ({"iterations": [{"a": 1, "b": None}]}, {}, {"spancast.usage.iterations": '[{"a":1}]'}),
        ({"a": {"b": {"c": {"d": {"e": 1}}}}}, {}, {"spancast.usage.a.b.c.d": '{"e":1}'}),
    ],
)
def test_read_usage_shapes(usage: object, counts: dict[str, Any], attributes: dict[str, Any]):
    assert read_usage(usage, TABLE) == (counts, attributes)


@given(json_values)
def test_read_usage_any_input_never_raises(usage: Any):
    counts, _ = read_usage(usage, TABLE)
    assert all(type(count) in (int, float) for count in counts.values())


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": {"input_tokens_cost": 0.25, "total_cost": 0.5}}, 0.5),
        ({"cost_in_usd_ticks": 37_756_000}, 0.0037756),
        ({"cost": 0.25, "cost_in_usd_ticks": 37_756_000}, 0.25),
        ({"cost_in_usd_ticks": "many"}, None),
        ({"cost": {"total_cost": None}}, None),
    ],
)
def test_total_cost_that_a_server_names_otherwise_is_the_cost(usage: Any, cost: float | None):
    assert read_usage(usage, TABLE).counts.get(semconv.USAGE_COST) == cost
