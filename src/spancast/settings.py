"""What a user can set: keywords over environment over file, checked all at once, then frozen.

Must never: be read again deep inside; ``runtime`` hands each room what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spancast.errors import ConfigError

CAPTURE_CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURING = frozenset({"true", "span_only", "span_and_event"})


class Settings(BaseModel):
    """Everything ``spancast.configure()`` takes beside OpenTelemetry providers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    service_name: str | None = Field(None, min_length=1, description="`service.name` of the provider spancast makes.")
    capture_content: bool = Field(
        default=True, description=f"Record messages, tools and error texts; {CAPTURE_CONTENT_VARIABLE} sets it too."
    )
    strict: bool = Field(default=False, description="Raise for a wrong trace key or parameter, before the request.")
    forward: Literal["auto", "always", "never"] = Field(
        "auto", description="Send trace keys in the request body: `auto` to OpenRouter only."
    )
    stream_usage: bool = Field(
        default=False, description="Ask for usage on streamed chat completions, and keep the extra chunk from the user."
    )
    cancelled_is_error: bool = Field(default=False, description="Give cancelled calls the span status ERROR.")
    group_idle_s: float = Field(30.0, gt=0, description="Seconds after which a group span without calls ends.")
    trace: dict[str, Any] = Field(default_factory=dict, description="Trace keys for every call that has none.")


def load(given: Mapping[str, Any]) -> Settings:
    """Return settings from keywords ``given`` over the environment.

    Raises:
        ConfigError: Lists every wrong field with its path, the value's type and what is allowed.
    """
    merged = {**_from_environment(), **{name: value for name, value in given.items() if value is not None}}
    try:
        return Settings(**merged)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']} (given: {type(one['input']).__name__})"
            for one in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from None


def _from_environment() -> dict[str, Any]:
    capture = os.environ.get(CAPTURE_CONTENT_VARIABLE)
    return {} if capture is None else {"capture_content": capture.strip().lower() in _CAPTURING}
