"""The S3 destination: an object per trace and batch, in OpenRouter's format.

Source: OpenRouter's S3 destination: key ``{pathTemplate}/{traceId}-{timestamp}.json``, content a
trace with its observations. Not defined there: dates are UTC, unsafe characters in ids are replaced,
and the timestamp is the start of the first span of the batch in nanoseconds. Two batches of a trace
have different keys, and a batch that is sent again writes the same object.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, AliasChoices, Field, model_validator

from spancast.destinations.aws_client import AwsConfig, call, client_of
from spancast.destinations.config import field_error
from spancast.destinations.field_types import Text
from spancast.destinations.path_templates import DATE_NAMES, date_values, template_of
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Encoder, Failure, Outcome, Payload, Retry, after
from spancast.encoding import genai_fields
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv

EXTRA: Final = "s3"
DEFAULT_PREFIX: Final = "openrouter-traces"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._=-]+")
_MAX_ID_LENGTH: Final = 128
_NS_PER_S: Final = 1_000_000_000
_UNNAMED_KEY: Final = "default"
_AMAZON: Final = "https://s3.amazonaws.com"
_GOOGLE: Final = "https://storage.googleapis.com"
"""Takes HMAC keys in place of Amazon's."""
_HUGGING_FACE: Final = "https://s3.hf.co"
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Variables that boto3 reads if no endpoint is given."""
_JSON: Final = "application/json"


class S3Config(AwsConfig, frozen=True):
    """A bucket in S3 or a compatible server."""

    type: Literal["s3"]
    bucket: Text = Field(
        validation_alias=AliasChoices("bucket", "bucket_name", "bucketName"), description="Name of the bucket."
    )
    provider: Literal["aws", "cloudflare_r2", "gcs", "huggingface", "other"] | None = Field(
        None,
        description="Product of the bucket: `gcs` and `huggingface` set the endpoint, the others except `aws` need it.",
    )
    namespace: Text | None = Field(None, description="User or organization of a Hugging Face bucket.")
    prefix: str = Field(DEFAULT_PREFIX, description="Value of {prefix}.")
    path_template: Annotated[str, AfterValidator(template_of("prefix", *DATE_NAMES, "apiKeyName"))] = Field(
        "{prefix}/{date}", description="Folder of the object: {prefix}, {date}, {year}, {month}, {day}, {apiKeyName}."
    )

    @model_validator(mode="after")
    def _check_provider(self) -> S3Config:
        if self.provider == "huggingface" and self.namespace is None and self.endpoint is None:
            raise field_error(("namespace",), None, "is missing; `provider: huggingface` needs it")
        if self.namespace is not None and (self.endpoint is not None or self.provider not in {None, "huggingface"}):
            raise field_error(("namespace",), self.namespace, "has no effect: it is of Hugging Face without `endpoint`")
        if self.provider in ("cloudflare_r2", "other") and self.endpoint is None:
            raise field_error(("endpoint",), None, f"is missing; `provider: {self.provider}` needs it")
        return self

    @property
    def server(self) -> str | None:
        """Return the URL of the server, None for Amazon's."""
        hugging_face = None if self.namespace is None else f"{_HUGGING_FACE}/{self.namespace}"
        return self.endpoint or hugging_face or (_GOOGLE if self.provider == "gcs" else None)

    def place(self) -> Place:
        """Return the bucket and the folder."""
        endpoint = self.server or next(filter(None, map(os.environ.get, _ENDPOINTS)), None)
        # Bucket names are unique at Amazon; on other servers two accounts may use the same name.
        key = self.access_key_id if endpoint and not self.session_token else None
        place = self.network_place(endpoint or _AMAZON, account={"access_key_id": key})
        folder = self.path_template.replace("{prefix}", self.prefix).strip("/")
        return replace(place, address={**place.address, "bucket": self.bucket, "region": self.region, "folder": folder})


class S3Destination:
    """Writes an object per trace of each batch."""

    def __init__(self, config: S3Config, encoder: Encoder, client: Any) -> None:  # noqa: ANN401 - boto3 has no types
        self.encoder = encoder
        self._config = config
        self._client = client

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Write the objects of ``payload``; after a failure, the other traces are sent again with the same keys.

        No object is begun after ``timeout_s``; one may last as long as the client's own time limit.
        """
        deadline_s = time.monotonic() + timeout_s
        objects = [
            (members, self._key(members), json_codec.encode(trace_object(members)).encode())
            for members in _traces(payload.spans)
        ]
        taken: list[tuple[str, str]] = []
        for members, key, body in objects:
            if taken and time.monotonic() >= deadline_s:
                return after(taken, Retry(f"S3 bucket {self._config.bucket}: time limit of {timeout_s:g} s"))
            failure = self._put(key, body)
            if failure is not None:
                return after(taken, failure)
            taken += [(span.trace_id, span.span_id) for span in members]
        return Delivered()

    def test_connection(self, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Write an empty object under the prefix, which needs the same rights as delivery."""
        key = f"{self._config.prefix}/connection-test".lstrip("/")
        return self._put(key, b"") or Delivered()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _key(self, members: Sequence[SpanData]) -> str:
        first = members[0]
        name = f"{_safe(genai_fields.raw_trace_id(first))}-{first.start_ns}.json"
        at = datetime.fromtimestamp(first.start_ns / _NS_PER_S, tz=UTC)
        folder = self._config.path_template.format_map(
            {
                **date_values(at),
                "prefix": self._config.prefix,
                "apiKeyName": _safe(first.text(*semconv.API_KEY_NAMES) or "") or _UNNAMED_KEY,
            }
        )
        return f"{folder.strip('/')}/{name}".lstrip("/")

    def _put(self, key: str, body: bytes) -> Failure | None:
        bucket = self._config.bucket
        put = functools.partial(self._client.put_object, Bucket=bucket, Key=key, Body=body, ContentType=_JSON)
        return call(put, "S3", f"for bucket {bucket}", self._config.server)[1]


def trace_object(spans: Sequence[SpanData]) -> dict[str, Any]:
    """Return the object for ``spans`` of one trace, ordered by start time."""
    first = spans[0]
    calls = [span for span in spans if span.is_generation] or list(spans)
    root = next((span for span in spans if not span.parent_span_id), first)
    return {
        "id": genai_fields.raw_trace_id(first),
        "name": first.text(semconv.TRACE_NAME) or root.name,
        "timestamp": genai_fields.iso_time(first.start_ns),
        "userId": first.text(semconv.USER_ID),
        "sessionId": first.text(semconv.SESSION_ID),
        "tags": genai_fields.tags(first),
        "metadata": genai_fields.own_keys(first),
        "input": genai_fields.conversation(calls[0]),
        "output": genai_fields.completion(calls[-1]),
        "observations": [_observation(span) for span in spans],
    }


def _observation(span: SpanData) -> dict[str, Any]:
    observation = {
        "id": span.span_id,
        "traceId": genai_fields.raw_trace_id(span),
        "type": genai_fields.span_type(span),
        "name": span.name,
        "parentObservationId": span.parent_span_id or None,
        "startTime": genai_fields.iso_time(span.start_ns),
        "endTime": genai_fields.iso_time(span.end_ns),
        "level": genai_fields.level(span),
        "statusMessage": span.status_message or None,
        "metadata": genai_fields.own_keys(span),
    }
    return {**observation, **_call(span)} if span.is_generation else observation


def _call(span: SpanData) -> dict[str, Any]:
    first_chunk = genai_fields.first_chunk_ns(span)
    costs = genai_fields.costs(span)
    return {
        "completionStartTime": None if first_chunk is None else genai_fields.iso_time(first_chunk),
        "model": span.text(semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL),
        "modelParameters": genai_fields.model_parameters(span),
        "input": genai_fields.conversation(span),
        "output": genai_fields.completion(span),
        "promptTokens": span.count(semconv.USAGE_INPUT_TOKENS),
        "completionTokens": span.count(semconv.USAGE_OUTPUT_TOKENS),
        "totalTokens": genai_fields.total_tokens(span),
        "promptTokensDetails": {
            "cachedTokens": span.count(semconv.USAGE_CACHE_READ),
            "cacheWriteTokens": span.count(semconv.USAGE_CACHE_WRITE),
            "audioTokens": span.count(semconv.USAGE_AUDIO_INPUT),
            "videoTokens": span.count(semconv.USAGE + "prompt_tokens_details.video_tokens"),
        },
        "completionTokensDetails": {
            "reasoningTokens": span.count(semconv.USAGE_REASONING),
            "imageTokens": span.count(semconv.USAGE_IMAGE_OUTPUT),
        },
        "inputCost": costs.input,
        "outputCost": costs.output,
        "totalCost": costs.total,
        **({"costSource": costs.source} if costs.source else {}),
        "finishReason": genai_fields.finish_reason(span),
    }


def _traces(spans: Iterable[SpanData]) -> list[list[SpanData]]:
    traces: dict[str, list[SpanData]] = {}
    for span in sorted(spans, key=lambda span: (span.start_ns, span.span_id)):
        traces.setdefault(span.trace_id, []).append(span)
    return list(traces.values())


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)[:_MAX_ID_LENGTH]


def create(config: S3Config, encoder: Encoder) -> S3Destination:
    """Return the destination of ``config``.

    Raises:
        ConfigError: boto3 is not installed.
    """
    return S3Destination(config, encoder, client_of("s3", config, config.server, EXTRA))
