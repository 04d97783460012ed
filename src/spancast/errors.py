"""Exceptions that spancast raises for errors of the user."""

from __future__ import annotations


class SpancastError(Exception):
    """Base class of every exception that spancast raises intentionally."""


class ConfigError(SpancastError):
    """An invalid setting; the message lists every invalid field with its path."""


class TraceKeyError(SpancastError):
    """An invalid trace key with ``strict=True``; raised before the request is sent.

    A parameter outside its API's range raises ``SpancastError`` itself.
    """
