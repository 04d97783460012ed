"""Allow-list of attributes without content, used by ``capture_content=False`` and privacy mode.

In the namespaces of GenAI instrumentations (spancast included) an attribute passes only if its name is in the
table, and only the part of its value that its rule allows. Names in other namespaces (``http.route``,
``db.statement``) belong to the application and pass, except a few that are known to hold content. Unknown
attributes that are left out are listed in ``spancast.redacted``, so that they can be added here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list, is_mapping
from spancast.model.trace_keys import OVERFLOW_ATTRIBUTE

Rule: TypeAlias = Callable[[Any], Any]
"""Returns the part of a value that may pass, or None. JSON text is decoded before the call."""

_WORD: Final = re.compile(r"[A-Za-z0-9_.:/@+~*=<>-]{0,512}", re.ASCII)
_LABEL_LIMIT: Final = 64
_NAME_LIMIT: Final = 64
_NAMES_CACHED: Final = 4096
_SHORT_NUMBER: Final = 2
_DEPTH: Final = 4


def _names(names: str) -> list[str]:
    return names.split()


# --- rules ------------------------------------------------------------------------------------------
def _anything(value: Any) -> Any:  # noqa: ANN401 - any attribute value
    """Pass ids, names, metadata and the model, which the caller gave to be recorded."""
    return value


def _application(value: Any) -> Any:  # noqa: ANN401 - any attribute value
    """Pass attributes outside the GenAI namespaces."""
    return value


def _content(_: Any) -> None:  # noqa: ANN401 - any attribute value
    """Pass nothing: documented as content."""


def _unknown(_: Any) -> None:  # noqa: ANN401 - any attribute value
    """Pass nothing: this may be content."""


def _number(value: Any) -> Any:  # noqa: ANN401 - any attribute value
    """Pass a number or a flag."""
    return value if isinstance(value, (bool, int, float)) else None


def _word(value: Any) -> Any:  # noqa: ANN401 - any attribute value
    """Pass an identifier or a value of an enumeration (no spaces, ASCII), a list of these, or a number."""
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) else None
    if is_list(value):
        return value if all(_word(item) is not None for item in value) else None
    return _number(value)


def _label(value: Any) -> Any:  # noqa: ANN401 - any attribute value
    """Pass the name of a provider, which may have spaces (``Amazon Bedrock``)."""
    return value if isinstance(value, str) and len(value) <= _LABEL_LIMIT and value.isprintable() else None


def _error_type(value: Any) -> Any:  # noqa: ANN401 - any attribute value
    """Pass an error code or a class name; anything else becomes ``_OTHER``."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else semconv.OTHER


def _fields(**rules: Rule) -> Rule:
    """Return a rule that passes the named fields of an object, each by its own rule."""

    def filter_value(value: Any) -> Any:  # noqa: ANN401 - any JSON
        if not is_mapping(value):
            return None
        given = cast("Mapping[object, Any]", value)
        kept = {name: kept_value for name, rule in rules.items() if (kept_value := rule(given.get(name))) is not None}
        return kept or None

    return filter_value


def _each(rule: Rule) -> Rule:
    """Return a rule that applies ``rule`` to each item of a list."""

    def filter_value(value: Any) -> Any:  # noqa: ANN401 - any JSON
        if not is_list(value):
            return None
        kept = [kept_value for item in value if (kept_value := rule(item)) is not None]
        return kept if kept or not value else None

    return filter_value


def _first_of(*rules: Rule) -> Rule:
    """Return a rule for a value of several forms: the first result of ``rules`` that is not None."""
    return lambda value: next((kept_value for rule in rules if (kept_value := rule(value)) is not None), None)


_USAGE_WORDS: Final = frozenset(
    _names(
        """
        accepted audio avg billable billed by byok cache cached call calls candidate candidates character characters
        completion completions connector connectors cost count creation details discount document duration embedding
        embeddings ephemeral
        eval executed execution fee fetch fetches file finish first generation google grounding h hit hits image images
        in inference initial input is iteration iterations latency load long m maps miss modality ms native num number
        output per pixels predict prediction predictions processing prompt queries query queue read reasoning rejected
        request requested requests retrieval saved search searches second seconds server source sources streaming text
        thinking thought thoughts ticks time to token tokens tool total units upstream usage usd use used video wait web
        write
        """
    )
)
"""Words in names of counts, times and costs. A name with other words may itself be content."""
_NAME_PARTS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_NAME: Final = re.compile(r"[A-Za-z0-9_.]{1,128}", re.ASCII)
_USAGE_TEXTS: Final = frozenset(
    _names("inference_geo modality model server_side_tools_used service_tier speed trafficType traffic_type ttl type")
)
"""Usage fields that are not numbers."""


@functools.lru_cache(_NAMES_CACHED)
def _is_usage_name(name: str) -> bool:
    """Return whether ``name`` (``promptTokensDetails``, ``cost_details.input_cost``) consists of usage words only."""
    if not _NAME.fullmatch(name):
        return False
    parts: list[str] = _NAME_PARTS.findall(name)
    return all(len(part) <= _SHORT_NUMBER if part.isdigit() else part.lower() in _USAGE_WORDS for part in parts)


def _usage(value: Any, depth: int = _DEPTH) -> Any:  # noqa: ANN401 - any JSON
    """Pass numbers, also inside lists and objects with usage names."""
    if isinstance(value, (bool, int, float)):
        return value
    if is_mapping(value) and depth:
        kept = {
            name: kept_value
            for name, item in value.items()
            if (kept_value := _usage_field(name, item, depth)) is not None
        }
        return kept or None
    if is_list(value) and depth:
        return [kept_value for item in value if (kept_value := _usage(item, depth - 1)) is not None] or None
    return None


def _usage_field(name: object, value: Any, depth: int) -> Any:  # noqa: ANN401 - any JSON
    if not isinstance(name, str):
        return None
    if name in _USAGE_TEXTS:
        return _word(value)
    return _usage(value, depth - 1) if _is_usage_name(name) else None


# --- the table --------------------------------------------------------------------------------------
def _rows(rule: Rule, names: str, prefix: str = "") -> dict[str, Rule]:
    return {prefix + name: rule for name in _names(names)}


_THINKING: Final = _fields(type=_word, budget_tokens=_number, token_budget=_number, display=_word)
_EFFORT: Final = _fields(
    effort=_word, max_tokens=_number, enabled=_number, exclude=_number, summary=_word, generate_summary=_word,
    context=_word, mode=_word,
)  # fmt: skip
_LIMIT: Final = _fields(type=_word, value=_number)
_EDIT: Final = _fields(
    type=_word, compact_threshold=_number, trigger=_LIMIT, keep=_first_of(_LIMIT, _word), clear_at_least=_LIMIT
)
_BUDGET: Final = _fields(effort=_word, task_budget=_fields(type=_word, total=_number, remaining=_number))
_MODE: Final = _fields(mode=_word)
_TIER: Final = _first_of(_word, _fields(type=_word))
_PERCENTILES: Final = _first_of(_number, _fields(p50=_number, p75=_number, p90=_number, p99=_number))
_ATTEMPT: Final = _fields(provider=_label, model=_word, status=_number, selected=_number)

_REQUEST: Final[Mapping[str, Rule]] = {
    **_rows(
        _number,
        """
        add_generation_prompt add_special_tokens background best_of cache_prompt candidate_count continue_final_message
        details dimensions disable_search early_stopping echo embedding_only enable_search enable_search_classifier
        enable_thinking f16_kv frequency_penalty ignore_eos include_reasoning include_stop_str_in_output
        incremental_output length_penalty logits_all logprobs low_vram main_gpu max_completion_tokens
        max_output_tokens max_retries max_tokens max_tool_calls max_turns min_p min_tokens mirostat mirostat_eta
        mirostat_tau n n_predict normalize num_batch num_ctx num_gpu num_keep num_predict num_search_results num_thread
        numa parallel_tool_calls penalize_newline presence_penalty priority prompt_logprobs random_seed raw
        raw_prompting repeat_last_n repeat_penalty repetition_penalty return_citations return_images
        return_related_questions return_token_ids safe_prompt search_queries_only seed skip_special_tokens
        spaces_between_special_tokens steps store store_messages stream strict_tools temperature tfs_z thinking_budget
        timeout timeout_ms top_a top_k top_logprobs top_p truncate_prompt_tokens typical_p use_beam_search
        use_encrypted_content use_mlock use_mmap vocab_only
        """,
    ),
    **_rows(
        _word,
        """
        additionalModelResponseFieldPaths anthropic_version betas citation_quality encoding_format function_call
        guardrailTrace guardrailVersion include inference_geo input_type keep_alive modalities models output_dtype
        output_modalities performanceConfigLatency previous_response_id projectIdentifier prompt_cache_key
        prompt_cache_retention prompt_mode prompt_truncation quality reasoning_effort reasoning_format result_format
        return_likelihoods route safety_identifier safety_mode schemaVersion search_context_size search_mode
        search_recency_filter service_tier size speed toolChoice transforms truncate truncation user_profile_id
        verbosity workspace_id
        """,
    ),
    # Gemini's parameters
    **_rows(_number, "audio_timestamp auto_truncate include_thoughts response_logprobs"),
    **_rows(
        _word,
        "cached_content media_resolution response_mime_type response_modalities task_type thinking_summaries",
    ),
    # Embeddings of Nova
    **_rows(_word, "embeddingPurpose taskType"),
    # Mistral's conversations
    **_rows(_word, "agent_id agent_version from_entry_id handoff_execution"),
    "safety_settings": _each(_fields(category=_word, threshold=_word, method=_word, type=_word)),
    "tool_config": _fields(functionCallingConfig=_MODE, function_calling_config=_MODE),
    **_rows(_content, "response_json_schema response_schema system_instruction"),
    "access_programs": _fields(cyber=_word),
    "additionalModelRequestFields": _fields(
        anthropic_beta=_word, inferenceConfig=_fields(topK=_number), k=_number, reasoning_config=_THINKING,
        reasoning_effort=_word, reasoningConfig=_fields(type=_word, maxReasoningEffort=_word), thinking=_THINKING,
        topK=_number, top_k=_number,
    ),
    "audio": _fields(format=_word, voice=_word),
    "background_options": _fields(completion_window=_word, continuation_id=_word),
    "billing_policy": _fields(type=_word, bill_to=_word),
    "cache_control": _fields(type=_word, ttl=_word),
    "citation_options": _fields(mode=_word),
    "compaction": _fields(type=_word),
    "container": _first_of(
        _word, _fields(id=_word, skills=_each(_fields(type=_word, skill_id=_word, version=_word)))
    ),
    "context_management": _first_of(_each(_EDIT), _fields(edits=_each(_EDIT))),
    "conversation": _first_of(_word, _fields(id=_word)),
    "debug": _fields(echo_upstream_body=_number),
    "diagnostics": _fields(previous_message_id=_word),
    "fallbacks": _first_of(
        _word,
        _each(_fields(model=_word, max_tokens=_number, speed=_word, thinking=_THINKING, output_config=_BUDGET)),
    ),
    "guardrailConfig": _fields(
        guardrailIdentifier=_word, guardrailVersion=_word, trace=_word, streamProcessingMode=_word
    ),
    "image": _fields(context_compression=_word),
    "image_config": _fields(
        aspect_ratio=_word, image_size=_word, quality=_word, size=_word, aspectRatio=_word, imageSize=_word
    ),
    "moderation": _fields(model=_word),
    "output_config": _BUDGET,
    "performanceConfig": _fields(latency=_word),
    # A plugin's type and limits; its prompts, patterns and domains are content.
    "plugins": _each(
        _fields(
            id=_word, enabled=_number, engine=_word, mode=_word, model=_word, allowed_models=_word, max_results=_number,
            max_uses=_number, cost_tier=_word, pdf=_fields(engine=_word),
        )
    ),
    "prompt_cache_options": _fields(mode=_word, ttl=_word, prewarm=_number, comparison_response_id=_word),
    "provider": _fields(
        order=_word, only=_word, ignore=_word, quantizations=_word, allow_fallbacks=_number, require_parameters=_number,
        data_collection=_word, zdr=_number, enforce_distillable_text=_number,
        sort=_first_of(_word, _fields(by=_word, partition=_word)),
        max_price=_fields(prompt=_word, completion=_word, request=_word, image=_word, audio=_word),
        preferred_max_latency=_PERCENTILES, preferred_min_throughput=_PERCENTILES,
    ),
    "reasoning": _first_of(_word, _EFFORT),
    "serviceTier": _TIER,
    "stream_options": _fields(include_usage=_number, include_obfuscation=_number),
    "think": _word,
    "thinking": _THINKING,
    # Tool names are left out like the tools.
    "tool_choice": _first_of(_word, _fields(type=_word, mode=_word, disable_parallel_tool_use=_number)),
    "web_search_options": _fields(search_context_size=_word),
    **_rows(
        _content,
        """
        contents documents functions input instructions messages outputConfig prediction prompt requestMetadata
        response_format stop stop_sequences suffix system template text tools
        """,
    ),
}  # fmt: skip
"""Parameters by wire name. The rule decides, not the type of the value: ``temperature="…"`` does not pass."""

_RESPONSE: Final[Mapping[str, Rule]] = {
    **_rows(
        _number,
        """
        cache_hit completed_at created firstByteLatency invocationLatency metrics.latencyMs retry_attempts seed
        status_code
        """,
    ),
    **_rows(
        _word,
        """
        chunk_times created_at error_code error_type generation_id incomplete native_finish_reasons object
        performanceConfigLatency request_id response_type status stop_details.category user_id
        """,
    ),
    "amazon-bedrock-guardrailAction": _word,
    "amazon-bedrock-invocationMetrics": _usage,
    "meta": _usage,
    "performanceConfig": _fields(latency=_word),
    "provider": _label,
    "serviceTier": _TIER,
    **_rows(_content, "additionalModelResponseFields amazon-bedrock-trace error trace"),
    "tool_usage": _usage,
    "logprobs": _content,
    # Gemini's fields
    **_rows(_word, "create_time service_tier"),
    "truncated": _number,
    "prompt_feedback": _fields(blockReason=_word, block_reason=_word),
    "openrouter_metadata": _fields(
        requested=_word, strategy=_word, region=_word, attempt=_number, is_byok=_number,
        endpoints=_fields(total=_number, available=_each(_ATTEMPT)), attempts=_each(_ATTEMPT),
    ),
}  # fmt: skip
"""Response fields by wire name."""

_TABLE: Final[Mapping[str, Rule]] = {
    # spancast
    **{semconv.REQUEST + name: rule for name, rule in _REQUEST.items()},
    **{semconv.RESPONSE + name: rule for name, rule in _RESPONSE.items()},
    semconv.RAW_TRACE_ID: _anything,
    semconv.RAW_PARENT_SPAN_ID: _anything,
    semconv.SPAN_NAME: _anything,
    semconv.GENERATION_NAME: _anything,
    OVERFLOW_ATTRIBUTE: _anything,
    semconv.PARENT_SPAN_ID: _word,
    semconv.PROMPT_NAME: _anything,
    semconv.PROMPT_VERSION: _word,
    semconv.COST_ESTIMATED: _number,
    semconv.COST_SOURCE: _anything,
    semconv.COST_INPUT: _number,
    semconv.COST_OUTPUT: _number,
    semconv.PROBLEMS: _anything,
    semconv.REDACTED: _anything,
    # Filtered attribute by attribute in _filter_overflow.
    semconv.OVERFLOW: _content,
    # OpenTelemetry
    **_rows(
        _number,
        """
        conversation.compacted embeddings.dimension.count evaluation.score.value is_streaming memory.record.count
        request.choice.count request.frequency_penalty request.max_completion_tokens request.max_tokens request.n
        request.presence_penalty request.repetition_penalty request.seed request.stream request.temperature
        request.top_k request.top_p response.streaming response.time_to_first_chunk response.tokens_per_second
        retrieval.top_k
        """,
        "gen_ai.",
    ),
    **_rows(
        _word,
        """
        evaluation.score.label openai.api_base openai.api_type openai.api_version openai.request.seed
        openai.request.service_tier openai.response.service_tier openai.response.system_fingerprint
        openai.system_fingerprint operation.name operation.type output.type request.encoding_formats
        request.previous_response.id request.reasoning.level request.reasoning_effort request.reasoning_summary
        request.stream_cursor response.finish_reason response.finish_reasons response.id response.reasoning_effort
        response.status response.stop_reason task.kind task.status token.modality token.type tool.call.id tool.type
        usage.token_type conversation.id
        """,
        "gen_ai.",
    ),
    **_rows(_label, "provider.name system", "gen_ai."),
    **_rows(
        _anything,
        """
        agent.id agent.name agent.version capability.name data_source.id evaluation.name function_id main_agent.id
        main_agent.name memory.record.id memory.store.id pipeline.name prompt.name prompt.version request.model
        response.model skill.name step.name task.id task.name task.parent.id tool.name user workflow.name
        """,
        "gen_ai.",
    ),
    **_rows(
        _content,
        """
        agent.description completion completion.tools content.completion.chunk evaluation.explanation event.content
        input.messages main_agent.description memory.query.text memory.records output.messages prompt
        request.stop_sequences request.structured_output_schema retrieval.documents retrieval.query.text
        skill.description skill.resource.name skill.source.uri system_instructions task.input task.output
        tool.call.arguments tool.call.result tool.definitions tool.description workflow.edges workflow.nodes
        """,
        "gen_ai.",
    ),
    **_rows(_word, "api.type request.service_tier response.service_tier response.system_fingerprint", "openai."),
    **_rows(_word, "method.name protocol.version request.id session.id", "mcp."),
    **_rows(_content, "request.argument resource.uri response.value session.init_options", "mcp."),
    semconv.ERROR_TYPE: _error_type,
    semconv.EXCEPTION_TYPE: _error_type,
    "exception.escaped": _word,
    **_rows(_content, "message msg stack", "error."),
    **_rows(_content, "exception.message exception.stacktrace otel.status_description"),
    # OpenInference
    **_rows(_word, "input.mime_type output.mime_type openinference.span.kind llm.finish_reason tool.id"),
    **_rows(_label, "llm.provider llm.system"),
    **_rows(
        _anything,
        """
        agent.name embedding.model_name llm.model_name llm.prompt_template.version llm.request.model_name
        llm.response.model_name prompt.id prompt.url prompt.vendor reranker.model_name tool.name
        """,
    ),
    "reranker.top_k": _number,
    **_rows(
        _content,
        """
        annotation.explanation evaluation.explanation input.value llm.function_call llm.input_messages
        llm.invocation_parameters llm.output_messages llm.prompt_template.template llm.prompt_template.variables
        llm.prompts llm.tools output.value reranker.query retrieval.documents tool.description tool.json_schema
        tool.parameters
        """,
    ),
    # OpenLLMetry
    **_rows(
        _number,
        """
        frequency_penalty is_streaming presence_penalty request.repetition_penalty temperature top_k top_p
        watsonx.max_new_tokens watsonx.min_new_tokens watsonx.random_seed watsonx.repetition_penalty
        """,
        "llm.",
    ),
    **_rows(
        _word,
        """
        request.reasoning_effort request.type response.finish_reason response.stop_reason usage.token_type
        watsonx.decoding_method
        """,
        "llm.",
    ),
    "llm.user": _anything,
    **_rows(
        _content, "chat.stop_sequences choices completions content.completion.chunk headers request.functions", "llm."
    ),
    **_rows(_word, "prompt.managed prompt.version prompt.version_hash span.kind", "traceloop."),
    **_rows(
        _anything,
        """
        association.properties correlation.id entity.name entity.path entity.version prompt.key prompt.version_name
        workflow.name
        """,
        "traceloop.",
    ),
    **_rows(_content, "entity.input entity.output prompt.template prompt.template_variables", "traceloop."),
    **_rows(
        _content,
        """
        query.embeddings.vector query.result.document query.result.metadata query.result.vector
        search.embeddings.vector search.result.entity marqo.search.query
        """,
        "db.",
    ),
    # Langfuse, LangSmith, MLflow, Braintrust
    **_rows(_number, "internal.as_root trace.public", "langfuse."),
    **_rows(_word, "observation.completion_start_time observation.level observation.type", "langfuse."),
    **_rows(
        _anything,
        """
        environment observation.metadata observation.model.name observation.prompt.name observation.prompt.version
        release session.id trace.metadata trace.name trace.tags user.id version
        """,
        "langfuse.",
    ),
    **_rows(_usage, "observation.cost_details observation.usage_details", "langfuse."),
    **_rows(
        _content,
        "observation.input observation.output observation.status_message trace.input trace.output",
        "langfuse.",
    ),
    **_rows(
        _anything,
        """
        root_span span.dotted_order span.id span.kind span.parent_id span.tags trace.id trace.name trace.session_id
        trace.session_name
        """,
        "langsmith.",
    ),
    "langsmith.usage_metadata": _usage,
    **_rows(
        _anything,
        """
        experimentId llm.model llm.provider message.format spanFunctionName spanType traceName traceRequestId
        """,
        "mlflow.",
    ),
    **_rows(_usage, "chat.tokenUsage llm.cost", "mlflow."),
    **_rows(_content, "chat.messages chat.tools spanInputs spanOutputs", "mlflow."),
    **_rows(_anything, "metadata parent span_attributes.name tags", "braintrust."),
    **_rows(_usage, "metrics scores", "braintrust."),
    "braintrust.span_attributes.type": _word,
    "braintrust.span_attributes": _fields(type=_word),
    **_rows(_content, "expected input input_json output output_json", "braintrust."),
    # Vercel AI SDK, Pydantic AI, Logfire, Google ADK, LiveKit, Genkit, Laminar, Haystack, CrewAI
    **_rows(
        _number,
        """
        response.avgCompletionTokensPerSecond response.avgOutputTokensPerSecond response.msToFinish
        response.msToFirstChunk settings.frequencyPenalty settings.maxOutputTokens settings.maxRetries
        settings.maxSteps settings.maxTokens settings.presencePenalty settings.seed settings.temperature
        settings.topK settings.topP
        """,
        "ai.",
    ),
    **_rows(_word, "operationId response.finishReason response.id response.timestamp toolCall.id toolCall.name", "ai."),
    **_rows(_anything, "model.id model.provider response.model telemetry.functionId", "ai."),
    **_rows(
        _content,
        """
        prompt prompt.messages prompt.tools response.object response.reasoning response.text response.toolCalls
        toolCall.args toolCall.result value values
        """,
        "ai.",
    ),
    **_rows(_number, "level_num sample_rate scrubbed", "logfire."),
    **_rows(_word, "pending_parent_id span_type", "logfire."),
    "logfire.tags": _anything,
    **_rows(_content, "json_schema msg msg_template", "logfire."),
    "pydantic_ai.all_messages": _content,
    **_rows(_anything, "event_id invocation_id session_id tool_call_id", "gcp.vertex.agent."),
    **_rows(_word, "genkit:name genkit:path genkit:state genkit:type"),
    **_rows(_word, "span.type span.instrumentation_source", "lmnr."),
    **_rows(_word, "component.name component.type", "haystack."),
    **_rows(_word, "agent.id crew.id task.id", "crewai."),
    # Names without a namespace, and those of OpenRouter Broadcast
    **_rows(
        _content,
        """
        all_messages_events completion completions event_body events final_result http.request.body
        http.request.body.text http.response.body http.response.body.text input inputs messages
        model_request_parameters output outputs prompt prompts request_data response_data span.input span.output
        tool_arguments tool_response trace.input trace.output
        """,
    ),
}
"""The rule of each known name."""

_FAMILIES: Final[Mapping[str, Rule]] = {
    semconv.TRACE_METADATA: _anything,
    "ai.telemetry.metadata.": _anything,
    "braintrust.metadata.": _anything,
    "braintrust.metrics.": _usage,
    "langfuse.observation.metadata.": _anything,
    "langfuse.trace.metadata.": _anything,
    "langsmith.metadata.": _anything,
    "lmnr.association.properties.": _anything,
    "mlflow.traceTag.": _anything,
    "traceloop.association.properties.": _anything,
    # Messages, tools and documents with an index or name in the attribute name.
    **dict.fromkeys(
        (
            "gen_ai.completion.", "gen_ai.prompt.", "llm.choices.", "llm.completions.", "llm.input_messages.",
            "llm.output_messages.", "llm.prompts.", "llm.request.functions.", "llm.tools.", "embedding.", "reranker.",
            "retrieval.",
        ),
        _content,
    ),
}  # fmt: skip
"""Rules by prefix, for names that are not in the table."""

_NAMESPACES: Final = frozenset(
    _names(
        """
        ai braintrust crewai embedding error exception gen_ai haystack input langfuse langsmith lk llm lmnr logfire mcp
        mlflow openai openinference output prompt pydantic_ai reranker retrieval spancast tool traceloop
        """
    )
)
"""Namespaces in which a name that is not in the table does not pass."""
_OTHER_NAMESPACES: Final = ("gcp.vertex.agent.", "genkit:")
_OWN: Final = "spancast"

_EVENTS: Final = ("ai.", "gen_ai.", "langfuse.", "llm.", "openinference.", "pydantic_ai.", "traceloop.")
_EVENT_FIELDS: Final = frozenset({"event.name", "finish_reason", "id", "index", "role"})
"""Attributes of a message event that pass in addition to those in the table."""


@functools.lru_cache(_NAMES_CACHED)
def _rule_of(name: str) -> Rule:
    rule = _TABLE.get(name)
    if rule is not None:
        return rule
    if name.startswith(semconv.USAGE):
        path = name[len(semconv.USAGE) :]
        is_text = path.rpartition(".")[2] in _USAGE_TEXTS
        return _word if is_text else _usage if _is_usage_name(path) else _unknown
    for family, family_rule in _FAMILIES.items():
        if name.startswith(family):
            return family_rule
    namespace, dot, rest = name.partition(".")
    if dot and namespace in _NAMESPACES:
        # Counts pass under any usage name; other numbers may be arguments or answers.
        return _number if namespace != _OWN and _is_usage_name(rest) else _unknown
    return _unknown if name.startswith(_OTHER_NAMESPACES) else _application


def _apply(rule: Rule, value: Any) -> Any:  # noqa: ANN401 - any attribute value
    """Return the part of ``value`` that ``rule`` passes: ``value`` itself if complete, JSON text for JSON text."""
    if rule is _anything or rule is _application:
        return value
    if rule is _content or rule is _unknown:
        return None
    is_json = isinstance(value, str) and value[:1] in ("{", "[")
    given = json_codec.decode(value) if is_json else value
    kept_value = None if given is None else rule(given)
    if kept_value is None:
        return None
    if kept_value == given:
        return value
    # A word that replaces a whole JSON text is no JSON text.
    return json_codec.encode(kept_value) if is_json and not isinstance(kept_value, str) else kept_value


def without_content(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``attributes`` without content; ``spancast.redacted`` lists the names of unknown ones left out."""
    kept, redacted = _filter(attributes)
    if redacted:
        kept[semconv.REDACTED] = sorted(redacted.union(_texts(kept.get(semconv.REDACTED))))
    return kept


def _filter(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    kept: dict[str, Any] = {}
    redacted: set[str] = set()
    session = attributes.get(semconv.SESSION_ID)
    for name, value in attributes.items():
        rule = _rule_of(name)
        if name == semconv.CONVERSATION_ID and value == session:
            # The caller's session under its second name, not a conversation id from the request.
            rule = _anything
        kept_value = _apply(rule, value)
        if kept_value is not None:
            kept[name] = kept_value
        if kept_value is not value and rule is not _content:
            redacted.add(_reported_name(name))
    if semconv.OVERFLOW in attributes:
        redacted |= _filter_overflow(kept, attributes[semconv.OVERFLOW])
    return kept, redacted


def _filter_overflow(kept: dict[str, Any], value: object) -> set[str]:
    """Add the overflow attributes that may pass to ``kept``; return the names of the others."""
    overflow = json_codec.decode(value) if isinstance(value, str) else None
    if not is_mapping(overflow):
        # Truncated by a limit of the SDK.
        return {_reported_name(semconv.OVERFLOW)}
    rest, redacted = _filter(overflow)
    redacted.update(_texts(rest.pop(semconv.REDACTED, None)))
    if rest:
        kept[semconv.OVERFLOW] = json_codec.encode(rest)
    return redacted


def event_without_content(event: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's ``attributes`` without content."""
    kept, _ = _filter(attributes)
    if not event.startswith(_EVENTS):
        return kept
    # A GenAI instrumentation's event holds a message in attributes without a namespace.
    return {
        name: value
        for name, value in kept.items()
        if _rule_of(name) is not _application or (name in _EVENT_FIELDS and _word(value) is not None)
    }


def may_pass(name: str, value: object) -> bool:
    """Return whether ``value`` passes unchanged under the attribute ``name``."""
    return _apply(_rule_of(name), value) is value


def _reported_name(name: str) -> str:
    """Return ``name`` if it is a parameter, else its namespace, because a response key may itself be content."""
    parameter = name[len(semconv.REQUEST) :] if name.startswith(semconv.REQUEST) else ""
    if parameter.isidentifier() and parameter.isascii() and len(parameter) <= _NAME_LIMIT:
        return name
    namespace, _, rest = name.replace(":", ".").partition(".")
    return f"{namespace}.{rest.partition('.')[0]}.*" if namespace == _OWN else f"{namespace}.*"


def _texts(value: object) -> Iterable[str]:
    return [item for item in value if isinstance(item, str)] if is_list(value) else ()
