"""The registry of SDKs: clients are found by their packages, patches are applied at import."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spancast
from spancast.errors import ConfigError
from spancast.instrumentation import registry
from spancast.instrumentation.patching import ClientSpec
from spancast.runtime import RUNTIME

_PATCHES = """
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Patch

CALLS = []
INSTRUMENTED = InstrumentedClients()


def _counted(method):
    def complete(client, *args, **kwargs):
        if INSTRUMENTED.covers(client):
            CALLS.append(type(client).__module__)
        return method(client, *args, **kwargs)

    return complete


PATCHES = ClientPatches(
    dialects=("openai_chat",),
    patches=(Patch("{package}.client", "Client.complete", _counted),),
    instance_patches=(InstancePatch("complete", _counted),),
    instrumented=INSTRUMENTED,
)
"""


class Namespace:
    """Two SDKs, ``shared.alpha`` and ``shared.beta.v2``, installed in two places of one namespace package."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("alpha", "beta.v2"):
            place = directory / name
            package = place / "shared" / name.replace(".", "/")
            package.mkdir(parents=True)
            for folder in [package, *package.parents]:
                if folder == place / "shared":
                    break
                (folder / "__init__.py").touch()
            (package / "client.py").write_text("class Client:\n    def complete(self, **body):\n        return body\n")
            patches = f"patches_of_{name.replace('.', '_')}"
            (place / f"{patches}.py").write_text(_PATCHES.replace("{package}", f"shared.{name}"))
            monkeypatch.syspath_prepend(place)
            spec = ClientSpec(
                name=name,
                distribution=name,
                packages=(f"shared.{name}",),
                min_version="1",
                patches=f"{patches}:PATCHES",
            )
            monkeypatch.setitem(registry.CLIENTS, name, spec)

    def client(self, name: str) -> Any:
        return importlib.import_module(f"shared.{name}.client").Client()

    def calls(self, name: str) -> list[str]:
        return importlib.import_module(f"patches_of_{name.replace('.', '_')}").CALLS


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespace]:
    yield Namespace(tmp_path, monkeypatch)
    spancast.uninstrument()
    for name in [name for name in sys.modules if name.startswith(("shared", "patches_of_"))]:
        del sys.modules[name]
    for name in ("alpha", "beta.v2"):
        RUNTIME.instrumentors.pop(name, None)


def test_instrument_client_of_a_shared_namespace_patches_its_own_sdk_only(shared: Namespace) -> None:
    alpha, beta = shared.client("alpha"), shared.client("beta.v2")
    assert spancast.instrument(alpha) is alpha
    assert alpha.complete(model="m") == beta.complete(model="m") == {"model": "m"}
    assert (shared.calls("alpha"), shared.calls("beta.v2")) == (["shared.alpha.client"], [])
    spancast.instrument(beta)
    beta.complete(model="m")
    assert shared.calls("beta.v2") == ["shared.beta.v2.client"]


@pytest.mark.parametrize("is_imported", [True, False])
def test_instrument_by_name_in_a_namespace_package_works_before_and_after_the_import(
    shared: Namespace, *, is_imported: bool
) -> None:
    if is_imported:
        shared.client("beta.v2")
    spancast.instrument("beta.v2")
    assert ("shared.beta.v2.client" in sys.modules) is is_imported, "instrumenting imports no SDK"
    shared.client("alpha").complete()
    shared.client("beta.v2").complete()
    assert shared.calls("beta.v2") == ["shared.beta.v2.client"]
    spancast.uninstrument("beta.v2")
    shared.client("beta.v2").complete()
    assert shared.calls("beta.v2") == ["shared.beta.v2.client"]


def test_name_of_prefers_the_most_specific_package(shared: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    outer = ClientSpec(
        name="outer", distribution="outer", packages=("shared",), min_version="1", patches="none:PATCHES"
    )
    monkeypatch.setitem(registry.CLIENTS, "outer", outer)
    assert registry.name_of(shared.client("alpha")) == "alpha"
    assert registry.name_of(shared.client("beta.v2")) == "beta.v2"


def test_name_of_ignores_packages_that_only_begin_alike(shared: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        registry.CLIENTS,
        "alp",
        ClientSpec(name="alp", distribution="alp", packages=("shared.alp",), min_version="1", patches="none:PATCHES"),
    )
    assert registry.name_of(shared.client("alpha")) == "alpha"


def test_instrument_object_of_no_sdk_raises_config_error() -> None:
    with pytest.raises(ConfigError, match=r"expected a client object of openai.*, got .*Path$"):
        spancast.instrument(Path())


def test_import_of_the_patches_of_openai_imports_httpx2_before_a_thread_of_ours_does() -> None:
    checks = "assert sys.modules['httpx2'].Client; assert 'openai' not in sys.modules"
    program = f"import sys, spancast.instrumentation.openai; {checks}"
    subprocess.run([sys.executable, "-c", program], check=True)
