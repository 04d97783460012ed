"""An SDK unlike the supported ones: the model is in the path, streams are plain generators."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit


class RefusedError(Exception):
    def __init__(self, http: int, status: str) -> None:
        super().__init__(f"{http} {status}")
        self.http = http
        self.status = status


class Client:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def generate(self, model: str, prompt: str) -> dict[str, Any]:
        return json.loads(self._post(f"/models/{model}:generate", prompt))

    def stream(self, model: str, prompt: str) -> Iterator[dict[str, Any]]:
        for line in self._post(f"/models/{model}:stream", prompt).splitlines():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])

    async def generate_async(self, model: str, prompt: str) -> dict[str, Any]:
        return self.generate(model, prompt)

    def _post(self, path: str, prompt: str) -> bytes:
        connection = http.client.HTTPConnection(urlsplit(self.base_url).netloc)
        try:
            connection.request("POST", path, json.dumps({"prompt": prompt}), {"content-type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise RefusedError(response.status, json.loads(body)["status"])
        return body
