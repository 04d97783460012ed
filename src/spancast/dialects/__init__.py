"""Dialects: parsers of each provider's requests and responses, without OpenTelemetry, I/O or SDKs."""
