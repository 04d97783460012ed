"""Privacy filter: the allow-list by name, and content that never passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spancast.dialects.registry import DIALECTS, find_dialect
from spancast.model import semconv
from spancast.model.privacy import event_without_content, may_pass, without_content

ROOT = Path(__file__).parents[1]
REGISTRY = json.loads((ROOT / "recordings/schemas/gen_ai_registry.json").read_text())
RECORDINGS = sorted(path for name in DIALECTS for path in (ROOT / "recordings" / name).glob("*.json"))
CANARY = "canary-7781"


def passing(**parameters: Any) -> dict[str, Any]:
    """Return the request parameters that pass, by wire name; objects are given as JSON text, as on a span."""
    recorded = {
        semconv.REQUEST + name: json.dumps(value) if isinstance(value, (dict, list)) else value
        for name, value in parameters.items()
    }
    kept = without_content(recorded)
    named = {name.removeprefix(semconv.REQUEST): value for name, value in kept.items()}
    return {
        name: json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value
        for name, value in named.items()
    }


def test_known_parameters_pass_unchanged() -> None:
    known: dict[str, Any] = {
        "seed": 7, "min_p": 0.1, "store": True, "logprobs": True, "verbosity": "low", "route": "fallback",
        "prompt_cache_key": "k", "reasoning": {"effort": "high", "summary": "detailed"},
        "thinking": {"type": "enabled", "budget_tokens": 2048}, "tool_choice": "auto",
        "provider": {"order": ["anthropic"], "allow_fallbacks": False, "max_price": {"prompt": "1"}},
        "plugins": [{"id": "web", "max_results": 3}], "stream_options": {"include_usage": True},
        "context_management": {"edits": [{"type": "compact_20260112"}]}, "conversation": {"id": "conv_1"},
        "container": {"skills": [{"type": "anthropic", "skill_id": "pptx", "version": "latest"}]},
        "cache_control": {"type": "ephemeral"}, "image_config": {"aspect_ratio": "1:1"},
    }  # fmt: skip
    assert passing(**known) == known
    lists: dict[str, Any] = {semconv.REQUEST + "models": ["a/b-1", "c/d:free"], semconv.REQUEST + "betas": ["mcp-2025"]}
    assert without_content(lists) == lists


@pytest.mark.parametrize(
    "name",
    ["question", "history", "guided_json", "system_prompt", "query", "temperature", "tools", "messages", "suffix",
     "response_format", "logit_bias", "mcp_servers", "prompt", "stop"],
)  # fmt: skip
@pytest.mark.parametrize("value", [CANARY, [CANARY], {"a": CANARY}, {CANARY: 1}, [[{CANARY: [CANARY]}]]])
def test_unknown_or_content_parameter_does_not_pass(name: str, value: Any) -> None:
    left = passing(**{name: value})
    assert CANARY not in json.dumps(left)
    assert left in ({}, {semconv.REDACTED: [semconv.REQUEST + name]})


def test_redacted_lists_parameter_names_but_no_data_keys() -> None:
    recorded = {
        "spancast.request.question": CANARY,
        "spancast.request.history": CANARY,
        "spancast.request.what is " + CANARY: 1,
        "spancast.request.große_frage": 1,
        "spancast.request." + "x" * 65: 1,
        "spancast.response." + CANARY: 1,
        "spancast.usage." + CANARY: 1,
        "gen_ai." + CANARY: "x",
        "genkit:" + CANARY: "x",
        semconv.INPUT_MESSAGES: CANARY,
    }
    assert without_content(recorded) == {
        semconv.REDACTED: [
            "gen_ai.*", "genkit.*", "spancast.request.*", "spancast.request.history", "spancast.request.question",
            "spancast.response.*", "spancast.usage.*",
        ]
    }  # fmt: skip


def test_known_object_passes_known_fields_only() -> None:
    left = passing(
        plugins=[{"id": "web", "search_prompt": CANARY, "max_results": 3}, {CANARY: CANARY}],
        provider={"order": ["openai"], "options": {CANARY: 1}, "zdr": True},
        reasoning={"effort": "low", CANARY: 1},
        tool_choice={"type": "function", "function": {"name": CANARY}},
        container={"id": "c_1", "text": CANARY},
        stream_options=[CANARY],
    )
    assert left.pop(semconv.REDACTED) == [
        f"spancast.request.{name}"
        for name in ("container", "plugins", "provider", "reasoning", "stream_options", "tool_choice")
    ]
    assert left == {
        "plugins": [{"id": "web", "max_results": 3}],
        "provider": {"order": ["openai"], "zdr": True},
        "reasoning": {"effort": "low"},
        "tool_choice": {"type": "function"},
        "container": {"id": "c_1"},
    }


@pytest.mark.parametrize("value", ["two words", "東京の天気", "a\nb", '{"a"', "[cut", '"quoted"', "x" * 513, b"bytes"])
def test_string_passes_only_as_single_word(value: Any) -> None:
    assert not may_pass(semconv.REQUEST + "verbosity", value)
    assert not may_pass(semconv.RESPONSE_FINISH_REASONS, [value])
    assert not may_pass(semconv.REQUEST + "seed", value)


def test_usage_passes_only_under_usage_words() -> None:
    usage: dict[str, Any] = {
        "spancast.usage.cost": 0.25,
        "spancast.usage.cost_details.upstream_inference_prompt_cost": 0.1,
        "spancast.usage.cache_creation.ephemeral_5m_input_tokens": 3,
        "spancast.usage.server_tool_use.web_search_requests": 1,
        "spancast.usage.completionTokens": 9,
        "spancast.usage.is_byok": False,
        "spancast.usage.service_tier": "standard",
        "gen_ai.usage.details.audio_tokens": 4,
        "llm.token_count.prompt_details.cache_input": 5,
        "ai.usage.cachedInputTokens": 6,
        "gen_ai.cost.total_tokens": 0.5,
    }
    iterations = '[{"type":"compaction","input_tokens":80,"cache_creation":{"ephemeral_1h_input_tokens":2}}]'
    assert without_content(usage) == usage
    assert without_content({"spancast.usage.iterations": iterations}) == {"spancast.usage.iterations": iterations}
    odd = json.dumps([{"input_tokens": 1, CANARY: 2, "note": CANARY, "model": "a b"}])
    assert without_content({"spancast.usage.iterations": odd, f"spancast.usage.{CANARY}": 1}) == {
        "spancast.usage.iterations": '[{"input_tokens":1}]',
        semconv.REDACTED: ["spancast.usage.*"],
    }
    assert without_content({"spancast.usage.input_tokens": CANARY, "llm.usage.my_secret_tokens": 1}) == {
        semconv.REDACTED: ["llm.*", "spancast.usage.*"]
    }


def test_overflow_is_filtered_per_attribute() -> None:
    rest = {
        semconv.RESPONSE_LOGPROBS: CANARY,
        semconv.RESPONSE + "citations": CANARY,
        semconv.REQUEST + "question": CANARY,
        semconv.REQUEST + "seed": 7,
        semconv.USAGE + "cost_details.upstream_inference_cost": 0.5,
        semconv.TRACE_METADATA + "order": "ORD-1",
        semconv.REDACTED: ["spancast.request.history"],
    }
    kept = without_content({semconv.OVERFLOW: json.dumps(rest)})
    assert json.loads(kept.pop(semconv.OVERFLOW)) == {
        "spancast.request.seed": 7,
        "spancast.usage.cost_details.upstream_inference_cost": 0.5,
        "trace.metadata.order": "ORD-1",
    }
    assert kept == {semconv.REDACTED: ["spancast.request.history", "spancast.request.question", "spancast.response.*"]}
    cut = json.dumps(rest)[:-9]
    assert without_content({semconv.OVERFLOW: cut}) == {semconv.REDACTED: ["spancast.overflow.*"]}
    assert without_content({semconv.OVERFLOW: json.dumps({semconv.RESPONSE_LOGPROBS: CANARY})}) == {}


def test_trace_keys_of_caller_pass() -> None:
    keys: dict[str, Any] = {
        semconv.SESSION_ID: "my session",
        semconv.CONVERSATION_ID: "my session",
        semconv.USER_ID: "Ann",
        semconv.TRACE_NAME: "Order processing",
        semconv.RAW_TRACE_ID: "order 7",
        semconv.RAW_PARENT_SPAN_ID: "step 2",
        semconv.SPAN_NAME: "Check the order",
        semconv.GENERATION_NAME: "Extract",
        semconv.TRACE_METADATA + "any key": "any text",
        semconv.TRACE_METADATA + "no json": "[x",
        "spancast.trace.metadata": '{"more":"keys"}',
        semconv.PROBLEMS: ["trace.long: 70000 characters, at most 65536 are kept; cut"],
        semconv.REQUEST_MODEL: "my model (local)",
        "http.url": "http://x.test/?q=1",
        "db.statement": "select 1",
        "error": True,
        "tenant": "t-1",
    }
    assert without_content(keys) == keys
    assert all(may_pass(name, value) for name, value in keys.items() if name != semconv.CONVERSATION_ID)
    assert without_content({semconv.CONVERSATION_ID: "an argument of that name"}) == {semconv.REDACTED: ["gen_ai.*"]}


def test_error_keeps_type_without_message() -> None:
    failed = {semconv.ERROR_TYPE: "openai.BadRequestError", semconv.RESPONSE + "status_code": 400,
              semconv.RESPONSE + "error_code": "invalid_prompt"}  # fmt: skip
    assert without_content({**failed, "error.message": CANARY, "error.stack": CANARY}) == failed
    assert without_content({semconv.ERROR_TYPE: f"you said {CANARY}"})[semconv.ERROR_TYPE] == "_OTHER"
    event = {"exception.type": "ValueError", "exception.message": CANARY, "exception.stacktrace": CANARY, "attempt": 2}
    assert event_without_content("exception", event) == {"exception.type": "ValueError", "attempt": 2}


def test_every_attribute_name_has_a_rule() -> None:
    """Each name passes some value or is documented as content; a new name needs a rule."""
    ours = [
        name
        for key, name in vars(semconv).items()
        if key.isupper() and isinstance(name, str) and "." in name and not name.startswith("http") and name[-1] != "."
    ]
    samples: tuple[Any, ...] = (1, "word", ["word"], {"id": "x"}, '{"requested":"x"}', "{}")
    for name in {*ours, *REGISTRY} - {semconv.REDACTED}:
        is_known = any(semconv.REDACTED not in without_content({name: sample}) for sample in samples)
        assert is_known, f"{name}: model/privacy.py has no row for it"


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recorded_traffic_keeps_usage_and_parameters(path: Path) -> None:
    dialect, case = find_dialect(path.parent.name), json.loads(path.read_text())
    attributes: dict[str, Any] = {}
    if isinstance(case.get("request"), dict):
        attributes |= dialect.read_request(case["request"], content=True).attributes
    if "stream" in case:
        stream = dialect.new_stream(content=True)
        for event in case["stream"]:
            stream.feed(event)
        answer = stream.result()
    else:
        answer = dialect.read_response(case.get("response"), content=True)
    attributes |= {**answer.attributes, **answer.usage}
    kept = without_content(attributes)
    for name, value in attributes.items():
        if "usage" in name or isinstance(value, (bool, int, float)):
            assert kept[name] == value
    quotes = {"logit_bias", "mcp_servers", "prediction", "response_format", "suffix", "text", "logprobs",
              "stop_sequences", "prompt_filter_results", "error", "debug", "documents", "template", "citations",
              "labels", "response_schema", "speech_config", "requestMetadata", "trace", "stop",
              "additionalModelResponseFields", "outputConfig", "city", "toolChoice"}  # fmt: skip
    assert {name.rpartition(".")[2] for name in attributes.keys() - kept.keys()} <= quotes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(sorted([
    *REGISTRY, semconv.OVERFLOW, semconv.REDACTED, "spancast.usage.iterations", "spancast.request.plugins",
    "spancast.request.provider", "spancast.response.x", "llm.prompts.0", "input.value", "http.url",
])) | st.text(max_size=12)  # fmt: skip


def test_json_text_that_a_word_replaces_is_that_word() -> None:
    assert without_content({"error.type": '["who", "knows"]'})["error.type"] == "_OTHER"


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, JSON | JSON.map(json.dumps), max_size=6))
def test_filter_never_raises_and_is_idempotent(attributes: dict[str, Any]) -> None:
    kept = without_content(attributes)
    assert without_content(kept) == kept
    assert event_without_content("gen_ai.choice", event_without_content("gen_ai.choice", attributes)) is not None


class CanaryInserter:
    """Adds a canary to every key and string of a JSON value from hypothesis."""

    strategy = st.recursive(
        st.just(CANARY) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.just(CANARY) | st.sampled_from(["id", "text", "content", "effort"]), inner, max_size=3)
        ),
        max_leaves=8,
    )


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["spancast.request.", "spancast.response.", "gen_ai.", "llm.", "ai.", "traceloop.", "input."]),
    st.sampled_from(["question", "answer", "x.0.content", "prompt.0.content", CANARY]),
    CanaryInserter.strategy,
    st.booleans(),
)
def test_unknown_value_of_any_shape_never_passes(namespace: str, name: str, value: Any, in_overflow: bool) -> None:
    attributes: dict[str, Any] = {
        namespace + name: value if in_overflow or isinstance(value, int) else json.dumps(value)
    }
    given_ = {semconv.OVERFLOW: json.dumps(attributes)} if in_overflow else attributes
    assert CANARY not in json.dumps(without_content(given_))
