"""The benchmark: what tracing costs the caller, against a span written by hand and against the peers."""
