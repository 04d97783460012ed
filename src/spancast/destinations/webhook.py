"""The user's own endpoint, which gets OTLP JSON.

Source: OpenRouter's webhook destination: the test is an empty body with ``X-Test-Connection: true``,
passed by any 2xx and by 400, as an endpoint may well refuse what holds no spans.
"""

from __future__ import annotations

import http.client
import importlib
from typing import Any, Final, Literal, cast

from pydantic import Field

from spancast.destinations.config import NetworkConfig
from spancast.destinations.field_types import Address
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Destination, Encoder, Outcome, Payload

TEST_HEADERS: Final = {"X-Test-Connection": "true"}
_JSON: Final = "application/json"


class WebhookConfig(NetworkConfig, frozen=True):
    """Your own endpoint."""

    type: Literal["webhook"]
    url: Address = Field(description="Where each batch goes.")
    method: Literal["POST", "PUT"] = Field("POST", description="How.")

    def place(self) -> Place:
        """Return the URL."""
        return self.network_place(self.url)


class WebhookDestination:
    """Sends each batch as OTLP JSON to a URL that is taken as it is."""

    def __init__(self, sender: Any, encoder: Encoder) -> None:  # noqa: ANN401 - an HttpSender, whose module loads urllib3
        self.encoder = encoder
        self._sender = sender

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Send ``payload``, uncompressed: an endpoint of one's own reads what is there."""
        body = payload.body("json", gzip=False)
        return cast("Outcome", self._sender.send(body, _JSON, gzip=False, timeout_s=timeout_s).outcome)

    def test_connection(self, timeout_s: float) -> Outcome:
        """Send an empty body, marked as a test; 400 passes too."""
        answer = self._sender.send(b"", _JSON, gzip=False, timeout_s=timeout_s, headers=TEST_HEADERS)
        return Delivered() if answer.status == http.client.BAD_REQUEST else cast("Outcome", answer.outcome)

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()


def create(config: WebhookConfig, encoder: Encoder) -> Destination:
    """Return the destination of ``config``.

    Raises:
        ConfigError: A certificate or a proxy cannot be used.
    """
    # An HTTP client is loaded by whoever sends, not by whoever reads a configuration.
    sending: Any = importlib.import_module("spancast.destinations.http")
    return WebhookDestination(sending.sender_of(config, config.url, product="Webhook", method=config.method), encoder)
