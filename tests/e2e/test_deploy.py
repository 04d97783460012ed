"""The Collector configurations, validated by the real binary.

The binary does not contain ``load_balancing`` and ``kafka``. The files that use them are validated twice. The
unmodified file must fail only because of that component; with an OTLP exporter in its place it must be valid.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.servers import binary

ROOT = Path(__file__).parents[2]
SUPPORTED = ["otel-collector.yaml", "deploy/gateway.yaml"]
WITH_MISSING_EXPORTER = {"deploy/agent.yaml": "load_balancing", "deploy/kafka.yaml": "kafka"}


def validate(config: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "QUEUE_DIRECTORY": str(tmp_path / "queue")}
    return subprocess.run(
        [str(binary("otelcol")), "validate", "--config", str(config)],
        capture_output=True, text=True, check=False, timeout=60, env=environ,
    )  # fmt: skip


@pytest.mark.parametrize("name", SUPPORTED)
def test_config_is_valid(name: str, tmp_path: Path) -> None:
    completed = validate(ROOT / name, tmp_path)
    assert completed.returncode == 0, completed.stderr


@pytest.mark.parametrize("name", WITH_MISSING_EXPORTER)
def test_config_is_valid_except_the_missing_exporter(name: str, tmp_path: Path) -> None:
    missing = WITH_MISSING_EXPORTER[name]
    completed = validate(ROOT / name, tmp_path)
    assert completed.returncode != 0
    assert f'unknown type: "{missing}"' in completed.stderr, completed.stderr
    config: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    queue = config["exporters"][missing]["sending_queue"]
    config["exporters"] = {"otlp_grpc": {"endpoint": "localhost:4317", "sending_queue": queue}}
    config["service"]["pipelines"]["traces"]["exporters"] = ["otlp_grpc"]
    rest = tmp_path / "rest.yaml"
    rest.write_text(yaml.safe_dump(config))
    completed = validate(rest, tmp_path)
    assert completed.returncode == 0, completed.stderr


def test_config_with_unknown_field_is_invalid(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((ROOT / "deploy/gateway.yaml").read_text().replace("decision_wait", "decision_weight"))
    assert validate(wrong, tmp_path).returncode != 0
