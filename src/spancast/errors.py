"""The exceptions that spancast raises on purpose."""

from __future__ import annotations


class SpancastError(Exception):
    """Base of every error spancast raises on purpose."""


class ConfigError(SpancastError):
    """A setting is wrong; the message lists every wrong field with its path."""


class TraceKeyError(SpancastError):
    """A trace key is wrong and ``strict=True``; raised before the request is sent.

    A parameter out of its API's range raises ``SpancastError`` itself.
    """
