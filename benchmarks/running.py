"""A client at work in this process, and its twin: the same client with nothing around it."""

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
    """One client, the ways to call it, the way to be sure that all has been sent."""

    client: Any
    call: Callable[[Any], Any]
    acall: Callable[[Any], Any]
    open: Callable[[Any], Iterable[Any]]
    """Make the call of a stream; returns what the user iterates over."""
    flush: Callable[[], Any] = field(default=_nothing)
    on: Callable[[], Any] = field(default=_nothing)
    off: Callable[[], Any] = field(default=_nothing)
    is_switch: bool = False
    """Instrumentation is a switch of the whole process: ``on`` before its calls, ``off`` after them, untimed."""


def plain(case: Case, client: Any = None, sdk: ModuleType | None = None, **more: Any) -> Running:
    """Return the SDK's client as it is, or ``client``, called with what ``case`` says and ``more``."""
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
    """Return the client the contestant is compared with, in the contestant's own process.

    Made before the contestant starts, and its methods are kept on the object as they are then:
    who patches the SDK's classes later does not reach it. That every span at the receiver is of
    a contestant's call, and none is left over, shows that it holds.
    """
    running = plain(case)
    resource = owner(running.client, case)
    resource.create = resource.create
    running.client.request = running.client.request
    return running
