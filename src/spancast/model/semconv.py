"""Constants for every attribute name that spancast writes, grouped by source.

Sources: GenAI semantic conventions of autumn 2026 (semantic-conventions-genai, schema
``gen-ai-dev/1.42.0-dev``), semantic conventions 1.44 (``session``, ``user``, ``server``,
``error``), OpenRouter Broadcast (``trace.*``). Names that none of them define start with ``spancast.``.
The constants package on PyPI stops at 1.41 and is not used.
"""

from __future__ import annotations

from typing import Final

SCOPE_NAME: Final = "spancast"
"""The instrumentation scope of every span that spancast creates."""

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"

OTHER: Final = "_OTHER"
"""A value that has no well-known name (semantic conventions): the type of an error, a provider."""

# --- gen_ai: operation, request ------------------------------------------------------------
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
FETCH_RESPONSE: Final = "fetch_response"
"""The operation that fetches a response of an earlier call by its id."""
CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
INVOKE_WORKFLOW: Final = "invoke_workflow"
"""The operation of a group span."""
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
EMBEDDINGS_DIMENSIONS: Final = "gen_ai.embeddings.dimension.count"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_STREAM_CURSOR: Final = "gen_ai.request.stream_cursor"

PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"
PROMPT_VARIABLE: Final = "gen_ai.prompt.variable"

# --- gen_ai: response ----------------------------------------------------------------------
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_STATUS: Final = "gen_ai.response.status"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"

# --- gen_ai: usage; totals include cache and reasoning ---------------------------------------
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_AUDIO_INPUT: Final = "gen_ai.usage.audio.input_tokens"
USAGE_AUDIO_OUTPUT: Final = "gen_ai.usage.audio.output_tokens"
USAGE_IMAGE_INPUT: Final = "gen_ai.usage.image.input_tokens"
USAGE_IMAGE_OUTPUT: Final = "gen_ai.usage.image.output_tokens"
USAGE_TEXT_INPUT: Final = "gen_ai.usage.text.input_tokens"
USAGE_TEXT_OUTPUT: Final = "gen_ai.usage.text.output_tokens"

# --- gen_ai: content (opt-in by convention, on by default here) ----------------------------------
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"

# --- openai refinement ------------------------------------------------------------------------
OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
OPENAI_RESPONSE_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"

# --- aws.bedrock refinement -------------------------------------------------------------------
BEDROCK_GUARDRAIL_ID: Final = "aws.bedrock.guardrail.id"

# --- general conventions ------------------------------------------------------------------------
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
RESEND_COUNT: Final = "http.request.resend_count"
CLOUD_REGION: Final = "cloud.region"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

# --- OpenRouter Broadcast -------------------------------------------------------------------------
TRACE_NAME: Final = "trace.name"
TRACE_METADATA: Final = "trace.metadata."
API_KEY_NAMES: Final = (TRACE_METADATA + "api_key_name", TRACE_METADATA + "openrouter.api_key_name")

# --- spancast: names that no convention defines -------------------------------------------------------------------
# spancast.request.<parameter>: the request parameter of that wire name (nested objects as JSON text)
# spancast.response.<field>: the response field of that wire name
REQUEST: Final = "spancast.request."
RESPONSE: Final = "spancast.response."

RESPONSE_CREATED: Final = "spancast.response.created"
RESPONSE_OBJECT: Final = "spancast.response.object"
RESPONSE_PROVIDER: Final = "spancast.response.provider"
RESPONSE_NATIVE_FINISH_REASONS: Final = "spancast.response.native_finish_reasons"
RESPONSE_LOGPROBS: Final = "spancast.response.logprobs"
RESPONSE_CACHE_HIT: Final = "spancast.response.cache_hit"
"""True if the response is from a cache of the client library, not from the provider."""
RESPONSE_CHUNK_TIMES: Final = "spancast.response.chunk_times"
"""Seconds from the request to each chunk of a stream; only with ``chunk_metrics``."""
RESPONSE_INCOMPLETE: Final = "spancast.response.incomplete"
"""The reason that a stream is not complete: ``closed``, ``abandoned``, ``cancelled``, ``failed`` or ``cut``."""

USAGE_TOTAL_TOKENS: Final = "spancast.usage.total_tokens"
USAGE_COST: Final = "spancast.usage.cost"
"""Cost in USD: as charged by the provider (OpenRouter ``usage.cost``), else estimated (``COST_ESTIMATED``)."""
USAGE_COST_DETAILS: Final = "spancast.usage.cost_details."
USAGE: Final = "spancast.usage."
"""Any other usage field by its wire name, nested ones joined with dots."""
COST_ESTIMATED: Final = "spancast.cost.estimated"
"""True if ``USAGE_COST`` is an estimate from prices and token counts."""
COST_SOURCE: Final = "spancast.cost.source"
"""The prices of the estimate: ``genai-prices 0.2.3: openai/gpt-5-mini`` or ``prices: <pattern of the setting>``."""
COST_INPUT: Final = "spancast.cost.input"
COST_OUTPUT: Final = "spancast.cost.output"

RAW_TRACE_ID: Final = "spancast.trace.id"
"""``trace_id`` as given by the caller, if it was hashed."""
RAW_PARENT_SPAN_ID: Final = "spancast.trace.parent_span_id"
PARENT_SPAN_ID: Final = "spancast.parent_span_id"
"""The original parent's id, if a destination that receives only GenAI spans gets another parent or none."""
SPAN_NAME: Final = "spancast.trace.span_name"
GENERATION_NAME: Final = "spancast.trace.generation_name"
PROBLEMS: Final = "spancast.validation_errors"
"""Errors in the trace keys or parameters of this call, one string each."""
OVERFLOW: Final = "spancast.overflow"
"""Attributes beyond the span's limit, as one JSON object."""
REDACTED: Final = "spancast.redacted"
"""Names of attributes that were left out because they may hold content (``model/privacy.py``)."""
