"""Servers of products in temporary folders, read through the APIs of their web pages; a broker; a real model."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.e2e.servers import Server, binary, get_json, poll, post
from tests.ports import own_port

START_DEADLINE_S = 180.0
"""Long, because both import many packages at start."""

PROTOBUF = "application/x-protobuf"

_TRACE_QUERY = """
query ($id: String!) {
  getTraceByOtelId(traceId: $id) {
    project { name }
    userId
    errorCount
    session { sessionId userId numTraces tokenUsage { prompt completion total } }
    rootSpan { name cumulativeTokenCountTotal }
    spans(first: 1000) { edges { node {
      spanId parentId name spanKind statusCode statusMessage metadata userId attributes
      tokenCountPrompt tokenCountCompletion tokenCountTotal tokenPromptDetails { cacheRead cacheWrite }
      input { value mimeType } output { value mimeType }
      events { name message attributes }
      costSummary { total { cost tokens } }
    } } }
  }
}
"""


class Phoenix(Server):
    """Phoenix with its own database. ``url`` is the base of OTLP and of its API."""

    def __init__(self, folder: Path) -> None:
        port, grpc = own_port(), own_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            [str(binary("phoenix")), "serve"],
            {
                "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(grpc),
                "PHOENIX_WORKING_DIR": str(folder), "PHOENIX_SQL_DATABASE_URL": f"sqlite:///{folder}/phoenix.db",
                # No telemetry.
                "PHOENIX_TELEMETRY_ENABLED": "false", "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
                "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
            },
            f"{self.url}/readyz", folder=folder, start_deadline_s=START_DEADLINE_S,
        )  # fmt: skip

    def post_spans(self, otlp: bytes) -> None:
        """Post spans like spancast's ``phoenix`` destination; their resource names the project."""
        post(f"{self.url}/v1/traces", otlp, content_type=PROTOBUF)

    def sessions(self, project: str) -> list[dict[str, Any]]:
        """Return the list of sessions of a project, as its page shows them."""
        found = [edge["node"] for edge in self.query_graphql(_SESSIONS_QUERY)["projects"]["edges"]]
        [sessions] = [one["sessions"] for one in found if one["name"] == project]
        return [edge["node"] for edge in sessions["edges"]]

    def query_graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of a GraphQL query."""
        answer = json.loads(post(f"{self.url}/graphql", json.dumps({"query": query, "variables": variables}).encode()))
        assert "errors" not in answer, answer["errors"]
        return dict(answer["data"])

    def trace(self, trace_id: str, *, spans: int) -> dict[str, Any]:
        """Wait until the trace has ``spans`` spans and return it, with its spans by name under ``spans``."""

        def read() -> dict[str, Any] | None:
            found = self.query_graphql(_TRACE_QUERY, id=trace_id)["getTraceByOtelId"]
            if found is None or len(found["spans"]["edges"]) < spans:
                return None
            return {**found, "spans": {edge["node"]["name"]: edge["node"] for edge in found["spans"]["edges"]}}

        return poll(read, f"trace {trace_id} with {spans} spans in Phoenix")


_SESSIONS_QUERY = """
query { projects { edges { node { name sessions(first: 100) { edges { node {
  sessionId firstInput { value } lastOutput { value }
} } } } } } }
"""


class MLflow(Server):
    """MLflow's tracking server with its own database. ``url`` is the base of OTLP and of its API."""

    def __init__(self, folder: Path) -> None:
        port = own_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            [
                str(binary("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
            ],
            {
                # No telemetry and no job workers.
                "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            f"{self.url}/health", folder=folder, start_deadline_s=START_DEADLINE_S,
        )  # fmt: skip

    def post_spans(self, otlp: bytes, *, experiment: str = "0") -> None:
        """Post spans like spancast's ``mlflow`` destination."""
        post(f"{self.url}/v1/traces", otlp, content_type=PROTOBUF, x_mlflow_experiment_id=experiment)

    def trace(self, trace_id: str, *, spans: int, experiment: str = "0") -> dict[str, Any]:
        """Wait until the trace has ``spans`` spans; return its entry in the list of traces, with spans by name."""
        location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
        search = json.dumps({"locations": [location], "max_results": 500}).encode()
        request_id = f"tr-{trace_id}"

        def read() -> dict[str, Any] | None:
            listed = json.loads(post(f"{self.url}/ajax-api/3.0/mlflow/traces/search", search)).get("traces", ())
            info = next((one for one in listed if one["trace_id"] == request_id), None)
            found = get_json(f"{self.url}/ajax-api/3.0/mlflow/get-trace-artifact?request_id={request_id}") or {}
            if info is None or len(found.get("spans", ())) < spans:
                return None
            return {**info, "spans": {one["name"]: {**one, "attributes": _decoded(one)} for one in found["spans"]}}

        return poll(read, f"trace {trace_id} with {spans} spans in MLflow")


class Evidently(Server):
    """Evidently's server with one project. ``url`` is the base of OTLP and of its API."""

    def __init__(self, folder: Path, *, secret: str | None = None) -> None:
        port = own_port()
        self.url = f"http://127.0.0.1:{port}"
        self._headers = {} if secret is None else {"evidently_secret": secret}
        secured = () if secret is None else ("--secret", secret)
        super().__init__(
            [str(binary("evidently", is_heavy=True)), "ui", "--workspace", str(folder), "--port", str(port), *secured],
            {"DO_NOT_TRACK": "1"},
            f"{self.url}/api/version", folder=folder, start_deadline_s=START_DEADLINE_S,
        )  # fmt: skip

    def create_dataset(self) -> tuple[str, str]:
        """Create a project with a dataset of traces; return their ids."""
        named = json.dumps({"name": "support-bot"}).encode()
        project = json.loads(post(f"{self.url}/api/projects", named, **self._headers))
        created = post(f"{self.url}/api/datasets/tracing?project_id={project}", named, **self._headers)
        return project, json.loads(created)["dataset_id"]

    def sessions(self, dataset: str) -> dict[str, list[dict[str, Any]]]:
        """Return the traces of a dataset by session, as its page lists them."""
        query = f"export_id={dataset}&getter_type=with_filters_from_metadata"
        return dict(get_json(f"{self.url}/api/v1/traces/list?{query}")["sessions"])


class Kafka(Server):
    """A broker without topics: at ``brokers`` anybody may write, at ``secured`` only user `writer`."""

    def __init__(self, folder: Path) -> None:
        ports = [own_port() for _ in range(3)]
        self.brokers, self.secured = (f"127.0.0.1:{port}" for port in ports[:2])
        arguments = [str(binary("kafka", is_heavy=True)), *map(str, ports), str(folder)]
        super().__init__(arguments, {}, "", folder=folder, start_deadline_s=START_DEADLINE_S)

    def create_topic(self, name: str, **settings: str) -> None:
        """Create a topic of one partition; ``settings`` have ``_`` for ``.``."""
        admin = import_module("confluent_kafka.admin")
        config = {key.replace("_", "."): value for key, value in settings.items()}
        client = admin.AdminClient({"bootstrap.servers": self.brokers})
        client.create_topics([admin.NewTopic(name, 1, config=config)])[name].result(60)

    def read(self, topic: str, count: int) -> list[Any]:
        """Return the first messages of a topic, at most ``count``."""
        kafka = import_module("confluent_kafka")
        settings = {"bootstrap.servers": self.brokers, "group.id": topic, "auto.offset.reset": "earliest"}
        consumer = kafka.Consumer(settings)
        consumer.subscribe([topic])
        try:
            return list(consumer.consume(count, timeout=60))
        finally:
            consumer.close()

    def _ready(self) -> bool | None:
        host, port = self.secured.split(":")
        with socket.socket() as probe:
            return True if probe.connect_ex((host, int(port))) == 0 else None


class Llama(Server):
    """llama.cpp with a small real model, ``MODEL``. ``url`` is the base of Messages, ``url/v1`` that of OpenAI's APIs."""

    MODEL = "smollm2"

    def __init__(self) -> None:
        port = own_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__([str(binary("llama")), str(port)], {}, f"{self.url}/health")


def _decoded(span: Mapping[str, Any]) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in span["attributes"].items()}
