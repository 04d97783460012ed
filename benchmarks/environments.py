"""Python environments of the candidates: the current one, or one created with ``uv venv`` and cached."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("SPANCAST_BENCH_CACHE") or Path.home() / ".cache" / "spancast" / "bench")
ROOT = Path(__file__).parents[1]
HERE = ""
"""Name of the environment that the benchmark itself runs in."""

PACKAGES: dict[str, tuple[str, ...]] = {
    "langfuse": ("langfuse", "openai"),
    "logfire": ("logfire", "openai", "opentelemetry-exporter-otlp-proto-http"),
    "posthog": ("posthog", "openai"),
    "braintrust": ("braintrust", "openai"),
    "litellm": ("litellm", "openai", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    "plots": ("matplotlib",),
}
_TIMEOUT_S = 5 * 60


def python_of(environment: str) -> Path | None:
    """Return the interpreter of ``environment``, creating the environment if needed; None if that fails."""
    if environment == HERE:
        return Path(sys.executable)
    packages = PACKAGES[environment]
    key = hashlib.sha256(json.dumps([packages, sys.version_info[:2]]).encode()).hexdigest()[:8]
    folder = CACHE / f"{environment}-{key}"
    python = folder / "bin" / "python"
    if (folder / ".ready").exists():
        return python
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        for command in (
            ["venv", "--quiet", "--clear", "--python", version, str(folder)],
            ["pip", "install", "--quiet", "--python", str(python), *packages],
        ):
            subprocess.run(
                [sys.executable, "-m", "uv", *command], check=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
            )
    except (OSError, subprocess.SubprocessError) as error:
        print(f"cannot create environment {environment}: {error}", file=sys.stderr)
        return None
    (folder / ".ready").touch()
    return python


def clean_environ(**more: str) -> dict[str, str]:
    """Return the environment variables for a worker: this process's, without those of OpenTelemetry and of proxies."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OTEL_") and not name.lower().endswith("_proxy")
    }
    return {**kept, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "", "DO_NOT_TRACK": "1", **more}


_LISTING = """
import json
from importlib.metadata import distributions
print(json.dumps({d.metadata["Name"].lower(): d.version for d in distributions()}))
"""


def versions(environment: str) -> dict[str, str]:
    """Return the versions of the distributions installed in ``environment``, by name."""
    python = python_of(environment)
    if python is None:
        return {}
    completed = subprocess.run(
        [python, "-c", _LISTING], capture_output=True, check=True, timeout=60, env=clean_environ(), cwd="/"
    )
    return json.loads(completed.stdout)
