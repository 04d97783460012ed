"""DIALECTS: the name users write -> the dialect. One row per file."""

from __future__ import annotations

from spancast.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from spancast.dialects.openai_chat import OPENAI_CHAT
from spancast.dialects.openai_responses import OPENAI_RESPONSES
from spancast.dialects.protocol import Dialect

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC_MESSAGES)
}
