from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.engines import Llama, MLflow, Phoenix
from tests.e2e.servers import Collector, Jaeger


@pytest.fixture(scope="session")
def jaeger() -> Iterator[Jaeger]:
    with Jaeger() as running:
        yield running


@pytest.fixture(scope="session")
def collector(jaeger: Jaeger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(jaeger, tmp_path_factory.mktemp("queue")) as running:
        yield running


@pytest.fixture(scope="session")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    with Phoenix(tmp_path_factory.mktemp("phoenix")) as running:
        yield running


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    with MLflow(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="session")
def llama() -> Iterator[Llama]:
    with Llama() as running:
        yield running
