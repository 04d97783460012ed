"""The Collector configurations, read by the real binary as far as its components can be had here.

``load_balancing`` and ``kafka`` are not in the binary that can be built here (their modules are refused by the module proxy): of
these files everything else is validated, with an OTLP exporter in that place, and the binary must name that one component when it
gets the file as it is.
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
WHOLE = ["otel-collector.yaml", "deploy/gateway.yaml"]
WITHOUT = {"deploy/agent.yaml": "load_balancing", "deploy/kafka.yaml": "kafka"}


def validate(config: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "QUEUE_DIRECTORY": str(tmp_path / "queue")}
    return subprocess.run(
        [str(binary("otelcol")), "validate", "--config", str(config)],
        capture_output=True, text=True, check=False, timeout=60, env=environ,
    )  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_the_binary_takes_it(name: str, tmp_path: Path) -> None:
    done = validate(ROOT / name, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", WITHOUT)
def test_only_the_exporter_that_cannot_be_had_is_missing(name: str, tmp_path: Path) -> None:
    missing = WITHOUT[name]
    done = validate(ROOT / name, tmp_path)
    assert done.returncode != 0
    assert f'unknown type: "{missing}"' in done.stderr, done.stderr
    given: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    queue = given["exporters"][missing]["sending_queue"]
    given["exporters"] = {"otlp_grpc": {"endpoint": "localhost:4317", "sending_queue": queue}}
    given["service"]["pipelines"]["traces"]["exporters"] = ["otlp_grpc"]
    rest = tmp_path / "rest.yaml"
    rest.write_text(yaml.safe_dump(given))
    done = validate(rest, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_wrong_field_would_be_told(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((ROOT / "deploy/gateway.yaml").read_text().replace("decision_wait", "decision_weight"))
    assert validate(wrong, tmp_path).returncode != 0
