"""Benchmark of the cost of tracing, compared with a span written by hand and with other libraries (peers)."""
