"""The webhook destination: OTLP JSON to the user's endpoint.

Source: OpenRouter's webhook destination. The connection test is an empty body with ``X-Test-Connection: true``.
Any 2xx passes, and 400, because an endpoint may reject a body without spans.
"""

from __future__ import annotations

import http.client
from typing import Any, Final, Literal, cast

from pydantic import Field

from spancast.destinations.config import NetworkConfig
from spancast.destinations.field_types import Address
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Destination, Encoder, Outcome, Payload

TEST_HEADERS: Final = {"X-Test-Connection": "true"}
_JSON: Final = "application/json"


class WebhookConfig(NetworkConfig, frozen=True):
    """An HTTP endpoint of your own."""

    type: Literal["webhook"]
    url: Address = Field(description="URL of the endpoint.")
    method: Literal["POST", "PUT"] = Field("POST", description="HTTP method.")

    def place(self) -> Place:
        """Return the URL."""
        return self.network_place(self.url)


class WebhookDestination:
    """Sends each batch as OTLP JSON to the configured URL."""

    def __init__(self, sender: Any, encoder: Encoder) -> None:  # noqa: ANN401 - an HttpSender; its module imports urllib3
        self.encoder = encoder
        self._sender = sender

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Send ``payload`` uncompressed, because a simple endpoint may not decompress."""
        body = payload.body("json", gzip=False)
        return cast("Outcome", self._sender.send(body, _JSON, gzip=False, timeout_s=timeout_s).outcome)

    def test_connection(self, timeout_s: float) -> Outcome:
        """Send an empty body with the test header; HTTP 400 passes, too."""
        result = self._sender.send(b"", _JSON, gzip=False, timeout_s=timeout_s, headers=TEST_HEADERS)
        return Delivered() if result.status == http.client.BAD_REQUEST else cast("Outcome", result.outcome)

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()


def create(config: WebhookConfig, encoder: Encoder) -> Destination:
    """Return the destination of ``config``.

    Raises:
        ConfigError: A certificate or a proxy cannot be used.
    """
    # Reading a configuration imports no HTTP client.
    from spancast.destinations.http import sender_of  # noqa: PLC0415 - as just said

    return WebhookDestination(sender_of(config, config.url, product="Webhook", method=config.method), encoder)
