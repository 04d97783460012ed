"""Encoding: redaction, conventions, truncation and OTLP, which turn a span into the bytes for one destination."""
