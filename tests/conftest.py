"""Shared by every test: captured spans, a replay server, and nothing left behind."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
from collections.abc import Iterator

import anthropic  # noqa: F401 - imported before the freeze
import openai.resources.chat
import openai.resources.responses  # noqa: F401
import openrouter  # noqa: F401
import pytest
from hypothesis import HealthCheck, settings
from opentelemetry import trace as trace_api

from spancast.testing import CapturedSpans, ReplayServer, captured_spans

# What is configured with nothing keeps traces in the user's state directory: not in that of who runs the tests.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="spancast-tests-")

# No example has a time limit: how long one takes depends on what else the machine does.
settings.register_profile("spancast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("spancast")

# The SDKs make a million objects; frozen, they cost the collections below nothing.
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
    gc.collect()
    assert not trace_api.get_current_span().get_span_context().is_valid
    assert "Failed to detach" not in caplog.text
