"""A client of a candidate in this process, and its baseline: the same client without instrumentation."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from benchmarks.cases import Case
from benchmarks.provider import CLIENTS, client_class, http_client, method, owner


def _nothing() -> None:
    return


@dataclass(kw_only=True)
class Running:
    """One client, with functions that call it and flush its spans."""

    client: Any
    call: Callable[[Any], Any]
    acall: Callable[[Any], Any]
    open: Callable[[Any], Iterable[Any]]
    """Makes a streamed call; returns the iterable that the user gets."""
    flush: Callable[[], Any] = field(default=_nothing)
    on: Callable[[], Any] = field(default=_nothing)
    off: Callable[[], Any] = field(default=_nothing)
    is_switch: bool = False
    """Instrumentation is global to the process: ``on`` runs before its calls and ``off`` after them, untimed."""


def plain(case: Case, client: Any = None, sdk: ModuleType | None = None, **more: Any) -> Running:
    """Return the SDK's unmodified client, or ``client``; it is called with the request of ``case`` and ``more``."""
    sdk = sdk or importlib.import_module(CLIENTS[case.api])
    if client is None:
        client = client_class(sdk, case)(api_key="sk-test", http_client=http_client(sdk, case), max_retries=0)
    request = {**case.request, **more}

    def call(client: Any) -> Any:
        return method(client, case)(**request)

    async def acall(client: Any) -> None:
        await method(client, case)(**request)

    return Running(client=client, call=call, acall=acall, open=call)


def baseline(case: Case) -> Running:
    """Return the client that the candidate is compared with, in the candidate's own process.

    Called before the candidate starts. The methods are stored on the object, so patching the SDK's
    classes later does not affect it. The test: the receiver has one span per call of the candidate,
    and no other.
    """
    running = plain(case)
    resource = owner(running.client, case)
    resource.create = resource.create
    running.client.request = running.client.request
    return running
