"""Shared by every test: captured spans, a replay server, and nothing left behind."""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - before the objects are frozen
import certifi
import openai.resources.chat
import openai.resources.responses  # noqa: F401
import openrouter  # noqa: F401
import pytest
from hypothesis import HealthCheck, settings
from opentelemetry import trace as trace_api

from spancast.testing import CapturedSpans, ReplayServer, captured_spans

# What is configured with nothing keeps traces in the user's state directory: not in that of who runs the tests.
_OWN_FOLDER = Path(tempfile.mkdtemp(prefix="spancast-tests-"))
os.environ["XDG_STATE_HOME"] = str(_OWN_FOLDER)

# An SDK's client reads all certificates it trusts when it is made: 20 ms for those of certifi. Here one is enough, as no
# test leaves this machine and tests of TLS name their own.
_ONE_CERTIFICATE = _OWN_FOLDER / "authority.pem"
_ONE_CERTIFICATE.write_text("".join(Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")[:2]))
os.environ["SSL_CERT_FILE"] = str(_ONE_CERTIFICATE)

# No example has a time limit: how long one takes depends on what else the machine does.
settings.register_profile("spancast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("spancast")


_REAL_SERVERS = "tests/e2e"
_PROGRAMS = "tests/test_documentation.py"
_LONGEST = (
    _REAL_SERVERS,
    _PROGRAMS,
    "tests/ui",
    "tests/test_benchmarks.py",
    "tests/test_examples.py",
    "tests/contract",
    "tests/broadcast",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole files, so that what a module shares is made once; real servers run in one worker only."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            # Its tests share nothing and take minutes together.
            if nodeid.startswith(_PROGRAMS):
                return nodeid
            return _REAL_SERVERS if nodeid.startswith(_REAL_SERVERS) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let workers begin with the longest, so that none is left with it at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: next((i for i, one in enumerate(_LONGEST) if item.nodeid.startswith(one)), 99))


def pytest_collection_finish() -> None:
    """Freeze the million objects that SDKs and test modules are, so that collections cost nothing for them."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def server() -> Iterator[ReplayServer]:
    with ReplayServer() as running:
        yield running


@pytest.fixture
def spans() -> Iterator[CapturedSpans]:
    with captured_spans() as captured:
        yield captured


@pytest.fixture(autouse=True)
def nothing_left_active(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Law 4: no span of ours is current after a test, and no context token was detached wrongly."""
    caplog.set_level(logging.WARNING)
    yield
    assert not trace_api.get_current_span().get_span_context().is_valid
    assert "Failed to detach" not in caplog.text
    openai = sys.modules.get("openai")
    left = openai is not None and "request" in vars(openai.OpenAI)
    assert not left, "another instrumentation's method hides those of the base class from later tests"


class _Warned(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture(scope="module", autouse=True)
def nothing_left_to_collect() -> Iterator[None]:
    """Law 4 for what a module's tests abandon in reference cycles, which ends when it is collected.

    Once a module: a collection takes longer than most tests. A test of what is abandoned collects by itself.
    """
    warned, contexts = _Warned(), logging.getLogger("opentelemetry.context")
    contexts.addHandler(warned)
    yield
    gc.collect()
    contexts.removeHandler(warned)
    assert not trace_api.get_current_span().get_span_context().is_valid
    assert not warned.texts
