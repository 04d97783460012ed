"""The estimated cost of a call: the same as by genai-prices, or by the caller's own prices."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator

import genai_prices
import openai
import pytest
from genai_prices.data import providers

import spancast
from spancast.dialects.cost import CostEstimator, OwnPrice, Rates
from spancast.encoding.safe_regex import Pattern
from spancast.errors import ConfigError
from spancast.model import semconv
from spancast.testing import ReplayServer, captured_spans

OUR_NAMES = {
    "aws": "aws.bedrock", "azure": "azure.ai.openai", "google": "gcp.gemini", "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai", "x-ai": "x_ai", "zai": "z_ai",
}  # fmt: skip
VERSION = genai_prices.__version__
WRITES_1H = "spancast.usage.cache_creation.ephemeral_1h_input_tokens"


@pytest.fixture(autouse=True)
def _after() -> Iterator[None]:
    yield
    spancast.shutdown(0.1)


def call(provider: str = "openai", model: str = "gpt-5-mini", **counts: int) -> dict[str, object]:
    names = {
        "sent": semconv.USAGE_INPUT_TOKENS,
        "received": semconv.USAGE_OUTPUT_TOKENS,
        "read": semconv.USAGE_CACHE_READ,
        "written": semconv.USAGE_CACHE_WRITE,
        "written_1h": WRITES_1H,
        "audio_in": semconv.USAGE_AUDIO_INPUT,
        "audio_out": semconv.USAGE_AUDIO_OUTPUT,
        "reasoning": semconv.USAGE_REASONING,
    }
    given = counts or {"sent": 1_000_000, "received": 100_000}
    usage = {names[name]: count for name, count in given.items()}
    return {semconv.PROVIDER_NAME: provider, semconv.REQUEST_MODEL: model, **usage}


def cost(attributes: dict[str, object], estimator: CostEstimator | None = None) -> object:
    return (estimator or CostEstimator()).estimate(attributes).get(semconv.USAGE_COST)


@pytest.mark.parametrize("most", [1_000, 400_000])
def test_estimate_of_every_bundled_model_equals_genai_prices(most: int) -> None:
    pick, estimator, compared = random.Random(most), CostEstimator(), 0
    for provider in providers:
        for model in provider.models:
            sent, received = pick.randrange(1, most), pick.randrange(1, most)
            read, written = pick.randrange(sent // 3 + 1), pick.randrange(sent // 3 + 1)
            written_1h = pick.randrange(written + 1)
            usage = genai_prices.Usage(
                input_tokens=sent, output_tokens=received, cache_read_tokens=read, cache_write_tokens=written,
                cache_write_1h_tokens=written_1h,
            )  # fmt: skip
            try:
                expected = genai_prices.calc_price(usage, model.id, provider_id=provider.id)
            except (LookupError, ValueError):
                # An id that another model matches first, or prices by other units.
                continue
            found = cost(
                call(
                    OUR_NAMES.get(provider.id, provider.id), model.id,
                    sent=sent, received=received, read=read, written=written, written_1h=written_1h,
                ),
                estimator,
            )  # fmt: skip
            prices = expected.model_price
            if prices.input_mtok is None and prices.output_mtok is None:
                assert found is None, model.id
            else:
                assert found == pytest.approx(float(expected.total_price), rel=1e-9, abs=1e-11), model.id
                compared += 1
    assert compared > 1_500


def test_estimate_marks_the_cost_with_its_source_and_its_parts() -> None:
    assert CostEstimator().estimate(call(sent=1_000, received=100, read=400)) == {
        semconv.USAGE_COST: 0.00036,
        semconv.COST_INPUT: 0.00016,
        semconv.COST_OUTPUT: 0.0002,
        semconv.COST_ESTIMATED: True,
        semconv.COST_SOURCE: f"genai-prices {VERSION}: openai/gpt-5-mini",
    }


@pytest.mark.parametrize(
    ("provider", "model", "source"),
    [
        ("openai", "gpt-5-mini-2025-08-07", "openai/gpt-5-mini"),
        ("openai", "gpt-5.2-20251211", "openai/gpt-5.2"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", "openai/ft:gpt-4o-mini"),
        ("openrouter", "openai/gpt-5.2", "openrouter/openai/gpt-5.2"),
        ("azure.ai.openai", "gpt-4o-2024-08-06", "azure/gpt-4o"),
        ("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
         "aws/regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("aws.bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/global.anthropic.claude-sonnet-4-5-20250929-v1:0",
         "aws/global.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", "google/claude-sonnet-4-5"),
        ("gcp.gemini", "models/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("x_ai", "grok-4", "x-ai/grok-4-0709"),
        ("groq", "llama-3.3-70b-versatile", "groq/llama-3.3-70b-versatile"),
        ("_OTHER", "gpt-5-mini", "openai/gpt-5-mini"),
        ("_OTHER", "anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("_OTHER", "bedrock/amazon.nova-lite-v1:0", "aws/amazon.nova-lite-v1:0"),
    ],
)  # fmt: skip
def test_estimate_finds_the_model_by_the_name_each_provider_uses(provider: str, model: str, source: str) -> None:
    found = CostEstimator().estimate(call(provider, model))
    assert found[semconv.COST_SOURCE] == f"genai-prices {VERSION}: {source}"


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "my-model"),
        ("openai", "gpt-4o-minix"),
        ("nobody", "gpt-5-mini"),
        ("_OTHER", "llama3.2"),
        ("_OTHER", "mistral:7b"),
        ("_OTHER", "deepseek-r1"),
        ("_OTHER", "openai/gpt-oss-20b"),
        ("_OTHER", "google/gemma-3-27b-it"),
        ("_OTHER", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("_OTHER", "x" * 100_000),
    ],
)
def test_estimate_of_an_unknown_model_or_an_own_server_is_missing_and_not_zero(provider: str, model: str) -> None:
    assert CostEstimator().estimate(call(provider, model)) == {}


def test_estimate_uses_the_model_that_answered_else_the_requested_one() -> None:
    deployment = {**call("azure.ai.openai", "my-deployment"), semconv.RESPONSE_MODEL: "gpt-5-mini-2025-08-07"}
    assert cost(deployment) == cost(call())
    assert cost({**call("aws.bedrock", "amazon.nova-lite-v1:0"), semconv.RESPONSE_MODEL: "?"}) == pytest.approx(0.084)


def test_estimate_counts_each_token_once() -> None:
    # Audio and cached tokens are part of the input, reasoning tokens part of the output.
    assert cost(call(sent=1_000, received=1_000, reasoning=900)) == cost(call(sent=1_000, received=1_000))
    assert cost(call("aws.bedrock", "amazon.nova-2-sonic-v1:0", sent=1_000, received=0, audio_in=1_000)) == 0.003
    assert cost(call(sent=100, received=0, read=500)) == cost(call(sent=100, received=0, read=100))


def test_estimate_uses_the_prices_of_the_service_tier() -> None:
    flex, priority = ({**call(), semconv.OPENAI_RESPONSE_SERVICE_TIER: tier} for tier in ("flex", "priority"))
    assert cost(flex) == pytest.approx(0.225)
    assert cost(priority) == pytest.approx(0.81)
    batch = {**call("anthropic", "claude-haiku-4-5"), "spancast.usage.service_tier": "batch"}
    assert cost(batch) == pytest.approx(1.5 / 2)


def test_estimate_is_not_made_if_the_provider_names_the_cost_or_no_usage() -> None:
    assert CostEstimator().estimate({**call(), semconv.USAGE_COST: 0.0}) == {}
    assert CostEstimator().estimate({semconv.PROVIDER_NAME: "openai", semconv.REQUEST_MODEL: "gpt-5-mini"}) == {}


def test_estimate_with_odd_values_never_raises() -> None:
    for value in (None, "many", -1, True, 2**70, float("nan"), [1], "12"):
        given = {**call(), semconv.USAGE_CACHE_READ: value, semconv.USAGE_INPUT_TOKENS: value, WRITES_1H: value}
        assert isinstance(CostEstimator().estimate({**given, semconv.PROVIDER_NAME: value}), dict)


def test_own_prices_take_precedence_and_the_first_match_is_used() -> None:
    def own(name: str, rate: float) -> OwnPrice:
        return OwnPrice(name, Pattern(rf"\A(?:{name})\Z").search, Rates(rate, 0.0, cache_read=0.0))

    estimator = CostEstimator([own("gpt-5-mini", 1e-6), own("gpt-.*", 2e-6)])
    assert cost(call(sent=1_000), estimator) == 0.001
    assert cost(call(model="gpt-9", sent=1_000, read=500), estimator) == 0.001
    assert cost(call("_OTHER", "my-gpt-9"), estimator) is None
    assert estimator.estimate(call(model="gpt-9"))[semconv.COST_SOURCE] == "prices: gpt-.*"


def record(**settings: object) -> dict[str, object]:
    with ReplayServer() as server, captured_spans() as spans:
        spancast.configure(tracer_provider=spans.provider, **settings)  # type: ignore[arg-type]
        client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k"))
        client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "Hello"}])
        return dict(spans.one().attributes or {})


def test_configure_with_own_prices_or_without_estimates_reaches_the_span() -> None:
    attributes = record(prices={"gpt-.*": {"input": 10, "output": "20", "cache_read": 1}})
    sent, received = attributes[semconv.USAGE_INPUT_TOKENS], attributes[semconv.USAGE_OUTPUT_TOKENS]
    assert isinstance(sent, int)
    assert isinstance(received, int)
    assert attributes[semconv.USAGE_COST] == pytest.approx((10 * sent + 20 * received) / 1e6)
    assert attributes[semconv.COST_SOURCE] == "prices: gpt-.*"
    assert not {name for name in record(estimate_cost=False) if "cost" in name}


def test_configure_without_content_keeps_the_mark_of_an_estimate() -> None:
    attributes = record(capture_content=False)
    assert attributes[semconv.COST_ESTIMATED] is True
    assert str(attributes[semconv.COST_SOURCE]).startswith(f"genai-prices {VERSION}: ")


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"gpt-(": {"input": 1}}, "prices.gpt-(: must be a regular expression: missing )"),
        ({"m": {"input": -1}}, "prices.m.input: must be a number of at least 0"),
        ({"m": {"output": 1}}, "prices.m.input: is missing"),
        ({"m": {"input": 1, "cached": 1}}, "prices.m.cached: unknown"),
    ],
)
def test_configure_with_wrong_prices_names_the_field(prices: object, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        spancast.configure(prices=prices)  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_prices_are_not_imported_on_the_thread_of_the_caller(tmp_path) -> None:
    program = f"""
import sys, threading
import openai
import spancast
from spancast.testing import ReplayServer
assert "genai_prices" not in sys.modules
threads = set()
class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name == "genai_prices":
            threads.add(threading.current_thread())
sys.meta_path.insert(0, Watcher())
spancast.configure(spool="memory", destinations={{"f": {{"type": "file", "path": {str(tmp_path / "spans.jsonl")!r}}}}})
with ReplayServer() as server:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k"))
    client.chat.completions.create(model="gpt-5-mini", messages=[{{"role": "user", "content": "Hello"}}])
    assert spancast.flush(20)
assert threads, "not imported"
assert threading.main_thread() not in threads, threads
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert semconv.COST_SOURCE in (tmp_path / "spans.jsonl").read_text()


def test_many_threads_estimate_the_same() -> None:
    estimator, found = CostEstimator(), []
    threads = [threading.Thread(target=lambda: found.append(cost(call(), estimator))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {cost(call())}
