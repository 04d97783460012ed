"""CLIENTS: name -> the row of an SDK. Its patches are imported when it is instrumented."""

from __future__ import annotations

from typing import Final

from spancast.instrumentation.patching import ClientPatches, ClientSpec, Instrumentor, load

CLIENTS: Final[dict[str, ClientSpec]] = {
    spec.name: spec
    for spec in (
        ClientSpec(
            name="openai",
            distribution="openai",
            packages=("openai",),
            min_version="2.0.0",
            patches="spancast.instrumentation.openai:PATCHES",
        ),
        ClientSpec(
            name="openrouter",
            distribution="openrouter",
            packages=("openrouter",),
            min_version="1.0.0",
            patches="spancast.instrumentation.openrouter:PATCHES",
        ),
        ClientSpec(
            name="anthropic",
            distribution="anthropic",
            packages=("anthropic",),
            min_version="1.0.0",
            patches="spancast.instrumentation.anthropic:PATCHES",
        ),
    )
}


installations: Final[dict[str, Instrumentor]] = {}
"""The SDKs that have been instrumented, or clients of theirs."""


def instrumentor(name: str) -> Instrumentor:
    """Return the one installation of the SDK ``name``.

    Raises:
        KeyError: There is no such row.
    """
    known = installations.get(name)
    if known is None:
        patches: ClientPatches = load(CLIENTS[name].patches)
        # Two threads may both get here: the first to store its installation wins.
        known = installations.setdefault(name, Instrumentor(patches))
    return known


def name_of(client: object) -> str | None:
    """Return the name of the SDK that ``client`` is an object of; None if it is of none.

    By the most specific package that a row owns, so that SDKs may share a namespace (``google.genai``).
    """
    owners = {package: spec.name for spec in CLIENTS.values() for package in spec.packages}
    for kind in type(client).__mro__:
        package = kind.__module__
        while package:
            if package in owners:
                return owners[package]
            package = package.rpartition(".")[0]
    return None
