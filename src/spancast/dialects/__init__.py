"""Hear: wire JSON to neutral exchange. Pure functions; no OpenTelemetry, no I/O, no SDK."""
