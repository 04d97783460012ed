"""From the configuration of a destination to its encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spancast.destinations.config import DestinationConfig, Mask
from spancast.encoding.encoder import DEFAULT_MAX_ATTRIBUTE_BYTES, DEFAULT_MAX_SPAN_BYTES, SpanEncoder
from spancast.encoding.redaction import NO_REDACTION, Redaction, function_mask, pattern_mask


def redaction_of(config: DestinationConfig) -> Redaction:
    """Return what the destination of ``config`` may not see."""
    return _redaction(config.privacy_mode, config.mask)


def _redaction(is_private: bool, given: Sequence[Mask]) -> Redaction:
    masks = tuple(
        pattern_mask(mask.pattern, mask.replacement) if mask.pattern is not None else function_mask(_callable(mask))
        for mask in given
    )
    named = [(mask.pattern, mask.replacement) if mask.pattern is not None else id(mask.function) for mask in given]
    return Redaction(is_private, masks, repr((is_private, named)))


def shared_redaction(configs: Sequence[DestinationConfig]) -> Redaction:
    """Return what none of ``configs`` may see. It is removed before a span reaches the disk.

    That is privacy mode if all have it, and the masks that all lists begin with. A mask function is applied
    again by the destination's encoder, to its own result.
    """
    if not configs:
        return NO_REDACTION
    shared = configs[0].mask
    for config in configs[1:]:
        same = next((i for i, (a, b) in enumerate(zip(shared, config.mask, strict=False)) if a != b), None)
        shared = shared[: min(len(shared), len(config.mask)) if same is None else same]
    is_private = all(config.privacy_mode for config in configs)
    return _redaction(is_private, shared)


def _callable(mask: Any) -> Any:  # noqa: ANN401 - checked by the pydantic model
    return mask.function


def encoder_for(config: DestinationConfig, convention: str, resource: Mapping[str, str] | None = None) -> SpanEncoder:
    """Return the encoder for ``config``, a destination whose type has the convention ``convention``."""
    return SpanEncoder(
        redaction=redaction_of(config),
        convention=config.convention or convention,
        only_genai=config.spans == "genai",
        group_texts=not config.selects_calls,
        max_attribute_bytes=config.max_attribute_bytes or DEFAULT_MAX_ATTRIBUTE_BYTES,
        max_span_bytes=config.max_span_bytes or DEFAULT_MAX_SPAN_BYTES,
        resource=dict(resource or {}),
    )
