"""The estimated cost of a call whose provider names none, from its token counts and a table of prices.

Prices come from the setting ``prices``, else from the PyPI package genai-prices, which has them bundled. Its import
takes a tenth of a second, three with its compilation, so it is imported during the first call. A model without a known
price has no cost.

Invariants: never raises for the data of a call; equals the result of genai-prices (``test_cost.py``).
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from spancast.model import semconv
from spancast.model.attribute_values import count_of
from spancast.model.call import Attributes

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, PriceCalculation

_PER_MTOK: Final = 1_000_000
_PER_K: Final = 1_000
_LOAD_AFTER_S: Final = 0.05
"""Until the first call has sent its request: an import at the same time would delay that."""
_MODELS_CACHED: Final = 1_024
_NAME_LIMIT: Final = 512
_DIGITS: Final = 12
"""Decimal places of a cost: a token costs a billionth of a dollar or more."""

_PROVIDERS: Final[Mapping[str, str]] = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
    "z_ai": "zai",
}
"""``gen_ai.provider.name`` to the provider id of genai-prices, if they differ."""
_MAKERS: Final = frozenset({"anthropic", "google", "openai", "x-ai"})
"""Makers of models that cost the same through a gateway; other models may run on a server of the caller's own."""
_NAMED_BY_GATEWAYS: Final = _MAKERS | {"aws", "azure", "fireworks", "groq", "openrouter", "perplexity", "together"}
"""Providers that a gateway (LiteLLM) names before the model; other such names may be organizations of Hugging Face."""
_OPEN_WEIGHTS: Final = ("gpt-oss", "gemma")

_1H_WRITES: Final = f"{semconv.USAGE}cache_creation.ephemeral_1h_input_tokens"
_SEARCHES: Final = f"{semconv.USAGE}server_tool_use.web_search_requests"
_PARTS: Final = (
    semconv.USAGE_CACHE_READ, semconv.USAGE_CACHE_WRITE, semconv.USAGE_AUDIO_INPUT, semconv.USAGE_AUDIO_OUTPUT,
    semconv.USAGE_IMAGE_INPUT, semconv.USAGE_IMAGE_OUTPUT, semconv.USAGE_REASONING, _1H_WRITES, _SEARCHES,
)  # fmt: skip
"""Counts with a price of their own."""
_MODELS: Final = (semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL)
_TIERS: Final = (semconv.OPENAI_RESPONSE_SERVICE_TIER, f"{semconv.USAGE}service_tier")
_SPEED: Final = f"{semconv.USAGE}speed"
_BATCH: Final = "batch"


class ModelPrices(Protocol):
    """Prices in USD per million tokens."""

    @property
    def input(self) -> float: ...  # noqa: D102
    @property
    def output(self) -> float: ...  # noqa: D102
    @property
    def cache_read(self) -> float | None: ...  # noqa: D102
    @property
    def cache_write(self) -> float | None: ...  # noqa: D102


class Rates(NamedTuple):
    """Prices in USD: per token, per web search, per request; None is the price of a token of its direction."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    audio_input: float | None = None
    audio_output: float | None = None
    image_input: float | None = None
    image_output: float | None = None
    reasoning: float | None = None
    web_search: float = 0.0
    request: float = 0.0


def per_mtok(prices: ModelPrices) -> Rates:
    """Return the rates of prices per million tokens."""
    read, write = (None if price is None else price / _PER_MTOK for price in (prices.cache_read, prices.cache_write))
    return Rates(prices.input / _PER_MTOK, prices.output / _PER_MTOK, read, write)


class OwnPrice(NamedTuple):
    """A price of the caller's own, for the models that ``matches`` accepts."""

    name: str
    matches: Callable[[str], bool | None]
    rates: Rates


class _Price(NamedTuple):
    source: str
    rates: Rates | None
    """None if they depend on the time or on the number of input tokens."""
    at: Callable[[], ModelPrice] | None = None
    """Return the present prices of genai-prices."""


class CostEstimator:
    """Estimates costs with the caller's ``own`` prices, the first match first, else with those of genai-prices."""

    def __init__(self, own: Iterable[OwnPrice] = ()) -> None:
        self._own: Final = tuple(own)
        self._price_of: Final = functools.lru_cache(_MODELS_CACHED)(self._find_price)

    def estimate(self, attributes: Mapping[str, Any]) -> Attributes:
        """Return the attributes of the estimated cost; empty if the cost is known or the price or usage is not."""
        if semconv.USAGE_COST in attributes:
            return {}
        sent = count_of(attributes.get(semconv.USAGE_INPUT_TOKENS))
        received = count_of(attributes.get(semconv.USAGE_OUTPUT_TOKENS))
        if sent is None and received is None:
            return {}
        # Cut, so that the cache is bounded in bytes too; names beyond the limit have no price.
        names = tuple([_word(attributes, name)[: _NAME_LIMIT + 1] for name in _MODELS])
        tier, speed = _word(attributes, *_TIERS), _word(attributes, _SPEED)
        price = self._price_of(_word(attributes, semconv.PROVIDER_NAME), names, tier, speed)
        if price is None:
            return {}
        rates = price.rates or (_rates(price.at(), sent or 0) if price.at else Rates(0, 0))
        input_cost, output_cost, other_cost = _costs(attributes, rates, sent or 0, received or 0)
        return {
            semconv.USAGE_COST: round(input_cost + output_cost + other_cost, _DIGITS),
            semconv.COST_INPUT: round(input_cost, _DIGITS),
            semconv.COST_OUTPUT: round(output_cost, _DIGITS),
            semconv.COST_ESTIMATED: True,
            semconv.COST_SOURCE: price.source,
        }

    def _find_price(self, provider: str, names: Sequence[str], tier: str, speed: str) -> _Price | None:
        models = [name for name in names if 0 < len(name) <= _NAME_LIMIT]
        for name, matches, rates in self._own:
            if any(map(matches, models)):
                return _Price(f"prices: {name}", rates)
        return _bundled_price(provider, models, tier, speed)


def load_in_background() -> None:
    """Import genai-prices on a thread while the first call waits for its response, so that its span does not wait."""
    global _loading  # noqa: PLW0603 - one per process
    if _genai_prices.cache_info().currsize or (_loading is not None and _loading.is_alive()):
        return
    loading = _loading = threading.Timer(_LOAD_AFTER_S, _genai_prices)
    loading.name, loading.daemon = "spancast-prices", True
    # Without a thread, the first estimate imports it.
    with suppress(RuntimeError):
        loading.start()


_loading: threading.Timer | None = None
_importing: Final = threading.RLock()
"""Held during the import: a child that is forked in the middle of it could never import the package."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release
    )


@functools.cache
def _genai_prices() -> ModuleType:
    with _importing:
        import genai_prices  # noqa: PLC0415 - imported lazily, see above
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - imported lazily, see above

        get_snapshot()
        return genai_prices


def _bundled_price(provider: str, models: Sequence[str], tier: str, speed: str) -> _Price | None:
    found = next((match for model in models if (match := _bundled_model(provider, model))), None)
    if found is None:
        return None
    owner, model = found.provider, found.model
    # The keys of the package: flex, priority and the like; Anthropic's fast mode; batches at half the price.
    given = {"service_tier": tier, "speed": speed, "processing": _BATCH if tier == _BATCH else ""}
    # The variants of another provider's model, which this one resells, are unknown.
    context = given if any(model is own for own in owner.models) else None

    def prices() -> ModelPrice:
        return model.get_prices(datetime.now(UTC), context)

    present = prices()
    if present.input_mtok is None and present.output_mtok is None:
        return None
    is_fixed = not isinstance(model.prices, list) and not any(
        hasattr(value, "tiers") for value in vars(present).values()
    )
    source = f"genai-prices {_genai_prices().__version__}: {owner.id}/{model.id}"
    return _Price(source, _rates(present, 0) if is_fixed else None, prices)


def _bundled_model(provider: str, model: str) -> PriceCalculation | None:
    """Return the provider and the model of genai-prices, None if it does not know both."""
    name = model.removeprefix("publishers/google/").removeprefix("models/")
    if provider != semconv.OTHER:
        return _look_up(_PROVIDERS.get(provider, provider), name)
    maker, slash, rest = name.partition("/")
    found = _look_up(maker, rest) if slash else _look_up(None, name)
    known = _NAMED_BY_GATEWAYS if slash else _MAKERS
    is_sold = found is not None and found.provider.id in known and not found.model.id.startswith(_OPEN_WEIGHTS)
    return found if is_sold else None


def _look_up(provider: str | None, model: str) -> PriceCalculation | None:
    package = _genai_prices()
    try:
        return package.calc_price(package.Usage(), model, provider_id=provider)
    except LookupError:
        return None


def _rates(prices: ModelPrice, input_tokens: int) -> Rates:
    def rate(name: str, units: int = _PER_MTOK) -> float | None:
        value: Any = getattr(prices, name, None)
        # A tier applies to all tokens of a request with more input than its start.
        for tier in getattr(value, "tiers", ()):
            if input_tokens > tier.start:
                value = tier.price
        value = getattr(value, "base", value)
        return None if value is None else float(value) / units

    return Rates(
        input=rate("input_mtok") or 0.0,
        output=rate("output_mtok") or 0.0,
        cache_read=rate("cache_read_mtok"),
        cache_write=rate("cache_write_mtok"),
        cache_write_1h=rate("cache_write_1h_mtok"),
        audio_input=rate("input_audio_mtok"),
        audio_output=rate("output_audio_mtok"),
        image_input=rate("input_image_mtok"),
        image_output=rate("output_image_mtok"),
        reasoning=rate("output_reasoning_mtok"),
        web_search=rate("web_searches_kcount", _PER_K) or 0.0,
        request=rate("requests_kcount", _PER_K) or 0.0,
    )


def _costs(attributes: Mapping[str, Any], rates: Rates, sent: int, received: int) -> tuple[float, float, float]:
    """Return the cost of input, of output and of the rest; each token is counted once."""
    if not any(map(attributes.get, _PARTS)):
        # The most common case, on the caller's thread if another exporter sees the span.
        return sent * rates.input, received * rates.output, rates.request

    def count(name: str) -> int:
        return count_of(attributes.get(name)) or 0

    written, written_1h = count(semconv.USAGE_CACHE_WRITE), count(_1H_WRITES)
    rate_1h = rates.cache_write if rates.cache_write_1h is None else rates.cache_write_1h
    sent_parts = (
        (count(semconv.USAGE_CACHE_READ), rates.cache_read),
        (written_1h, rate_1h),
        (max(written - written_1h, 0), rates.cache_write),
        (count(semconv.USAGE_AUDIO_INPUT), rates.audio_input),
        (count(semconv.USAGE_IMAGE_INPUT), rates.image_input),
    )
    received_parts = (
        (count(semconv.USAGE_AUDIO_OUTPUT), rates.audio_output),
        (count(semconv.USAGE_IMAGE_OUTPUT), rates.image_output),
        (count(semconv.USAGE_REASONING), rates.reasoning),
    )
    other = rates.request + rates.web_search * count(_SEARCHES)
    return _cost(sent, rates.input, sent_parts), _cost(received, rates.output, received_parts), other


def _cost(total: int, rate: float, parts: Iterable[tuple[int, float | None]]) -> float:
    result, left = 0.0, total
    for part_count, part_rate in parts:
        if part_rate is not None:
            priced = min(part_count, left)
            left -= priced
            result += priced * part_rate
    return result + left * rate


def _word(attributes: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str):
            return value
    return ""
