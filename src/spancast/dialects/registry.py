"""DIALECTS: the name users write -> the dialect. One row per file."""

from __future__ import annotations

from spancast.dialects.anthropic_messages.reader import ANTHROPIC_MESSAGES
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_responses.reader import OPENAI_RESPONSES
from spancast.dialects.protocol import Dialect

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC_MESSAGES)
}
