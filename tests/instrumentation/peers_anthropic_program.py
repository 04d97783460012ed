"""Wrap anthropic with another library and with spancast, make calls; print the answers and the number of our spans.

Run by ``test_other_instrumentations.py`` in a process of its own. Arguments: LIBRARY ``class|client``
``peer first|ours first`` URL.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import anthropic

import spancast
from spancast.testing import captured_spans

REQUEST: Any = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
LOOP = asyncio.new_event_loop()


def _braintrust() -> Callable[[Any], Any]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import braintrust

    return braintrust.wrap_anthropic


def _braintrust_classes() -> Callable[[Any], Any]:
    _braintrust()
    import braintrust

    switches = inspect.signature(braintrust.auto_instrument).parameters.values()
    only = {one.name: one.name == "anthropic" for one in switches if isinstance(one.default, bool)}
    return _of_classes(lambda: braintrust.auto_instrument(**only))


def _sentry() -> Callable[[Any], Any]:
    import sentry_sdk
    from sentry_sdk.integrations.anthropic import AnthropicIntegration

    return _of_classes(
        lambda: sentry_sdk.init(
            dsn="http://k@127.0.0.1:9/1", traces_sample_rate=1.0, default_integrations=False,
            integrations=[AnthropicIntegration()],
        )
    )  # fmt: skip


def _ddtrace() -> Callable[[Any], Any]:
    os.environ.update(
        DD_TRACE_ENABLED="true", DD_INSTRUMENTATION_TELEMETRY_ENABLED="false", DD_REMOTE_CONFIGURATION_ENABLED="false"
    )
    from ddtrace.contrib.internal.anthropic.patch import patch

    return _of_classes(patch)


def _mlflow() -> Callable[[Any], Any]:
    os.environ.update(
        MLFLOW_TRACKING_URI="file:" + tempfile.mkdtemp(), MLFLOW_ALLOW_FILE_STORE="true",
        MLFLOW_ENABLE_ASYNC_TRACE_LOGGING="false", MLFLOW_DISABLE_TELEMETRY="true",
    )  # fmt: skip
    import mlflow.anthropic

    return _of_classes(mlflow.anthropic.autolog)


def _posthog() -> Callable[[Any], Any]:
    from posthog import Posthog
    from posthog.ai.anthropic import Anthropic, AsyncAnthropic

    posthog = Posthog("k", host="http://127.0.0.1:9", sync_mode=True, before_send=lambda _: None)

    def on(client: Any) -> Any:
        kind = Anthropic if isinstance(client, anthropic.Anthropic) else AsyncAnthropic
        return kind(posthog_client=posthog, base_url=str(client.base_url), api_key="k", max_retries=0)

    return on


def _of_classes(patch: Callable[[], object]) -> Callable[[Any], Any]:
    def on(client: Any) -> Any:
        patch()
        return client

    return on


LIBRARIES = {
    "braintrust": ("braintrust", _braintrust),
    "braintrust-classes": ("braintrust", _braintrust_classes),
    "ddtrace": ("ddtrace", _ddtrace),
    "mlflow": ("mlflow", _mlflow),
    "posthog": ("posthog", _posthog),
    "sentry": ("sentry_sdk", _sentry),
}
"""Module and starter. LangSmith's wrapper fails with this SDK's streams, also without ours."""


def answers(client: Any, asynchronous: Any) -> list[Callable[[], str]]:
    def text_of(events: Any) -> str:
        return "".join(event.delta.text for event in events if event.type == "content_block_delta")

    def helper() -> str:
        with client.messages.stream(**REQUEST) as stream:
            return "".join(stream.text_stream)

    async def created() -> str:
        return (await asynchronous.messages.create(**REQUEST)).content[0].text

    async def streamed() -> str:
        return text_of([event async for event in await asynchronous.messages.create(**REQUEST, stream=True)])

    async def helped() -> str:
        async with asynchronous.messages.stream(**REQUEST) as stream:
            return "".join([text async for text in stream.text_stream])

    return [
        lambda: client.messages.create(**REQUEST).content[0].text,
        lambda: text_of(client.messages.create(**REQUEST, stream=True)),
        helper,
        lambda: LOOP.run_until_complete(created()),
        lambda: LOOP.run_until_complete(streamed()),
        lambda: LOOP.run_until_complete(helped()),
    ]


def main(library: str, ours: str, order: str, url: str) -> None:
    on = LIBRARIES[library][1]()
    with captured_spans() as spans:
        clients = [
            kind(base_url=url, api_key="k", max_retries=0) for kind in (anthropic.Anthropic, anthropic.AsyncAnthropic)
        ]
        expected = [answer() for answer in answers(*clients)]

        def peer_on() -> None:
            clients[:] = map(on, clients)

        def ours_on() -> None:
            for target in ["anthropic"] if ours == "class" else clients:
                spancast.instrument(target)

        steps = [peer_on, ours_on]
        for step in steps if order == "peer first" else reversed(steps):
            step()
        found: list[Any] = []
        for answer, text in zip(answers(*clients), expected, strict=True):
            spans.clear()
            try:
                same: Any = answer() == text
            except Exception as error:  # noqa: BLE001 - reported
                same = f"{type(error).__name__}: {error}"[:200]
            found.append([same, sum(one.instrumentation_scope.name == "spancast" for one in spans.all())])
        print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
