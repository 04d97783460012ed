"""Providers and spans of other libraries: without a hash, wrapping the SDK's spans, taking no attribute of ours.

The stand-ins below have the properties that break assumptions: logfire's providers are data classes, which have
equality and no hash, and its spans wrap the SDK's.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

import spancast
from spancast.model.identity_map import IdentityMap
from spancast.testing import ReplayServer

MESSAGES: Any = [{"role": "user", "content": "hi"}]


class _Wrapper:
    """A span around one of the SDK's, with slots: it answers for it by every name, and takes no other attribute."""

    __slots__ = ("__weakref__", "inner")

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


trace_api.Span.register(_Wrapper)


class _WrappingTracer(Tracer):
    def __init__(self, inner: Tracer) -> None:
        self._inner = inner

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        return _Wrapper(self._inner.start_span(*args, **kwargs))

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        return trace_api.use_span(self.start_span(*args, **kwargs), end_on_exit=True)


class _Provider(TracerProvider):
    """Equality without a hash, as a data class has it; ``is_wrapping``: tracers make spans that wrap the SDK's."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *, is_wrapping: bool = False) -> None:
        super().__init__(shutdown_on_exit=False)
        self.is_wrapping = is_wrapping

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Provider)

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        tracer = super().get_tracer(*args, **kwargs)
        return _WrappingTracer(tracer) if self.is_wrapping else tracer


class _Meters(MeterProvider):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Meters)


@pytest.fixture
def client(server: ReplayServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield made


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    spancast.errors.tally.clear()
    former = spancast.errors.reraise_internal_errors(enabled=True)
    yield
    spancast.errors.reraise_internal_errors(enabled=former)
    spancast.shutdown(1)


def to(path: Path) -> dict[str, Any]:
    return {"file": {"type": "file", "path": str(path), "spans": "all"}}


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="m", messages=MESSAGES, **more)


def test_providers_without_a_hash_are_told_apart_and_delivered_once(client: openai.OpenAI, tmp_path: Path) -> None:
    first, second, meters = _Provider(), _Provider(), _Meters(shutdown_on_exit=False)
    for provider in (first, second, first):
        spancast.configure(
            tracer_provider=provider, meter_provider=meters, spool="memory", destinations=to(tmp_path / "spans.jsonl")
        )
    spancast.instrument(client)
    ask(client)
    second.get_tracer("application").start_span("of the provider that is not in use").end()
    report = spancast.flush(30)
    assert report
    assert report.destinations["file"].delivered == 1


def test_what_is_kept_for_a_provider_goes_with_it() -> None:
    known: IdentityMap[Any, str] = IdentityMap()
    first, second = _Provider(), _Provider()
    known.set(first, "first")
    assert (known.get(first), known.get(second)) == ("first", None)
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    assert known.values() == []


def test_a_key_that_takes_no_weak_reference_is_kept() -> None:
    known: IdentityMap[Any, str] = IdentityMap()
    key = ["unhashable, and without weak references"]
    known.set(key, "kept")
    assert (known.get(key), known.get(list(key))) == ("kept", None)
