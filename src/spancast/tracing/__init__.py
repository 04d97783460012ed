"""A call and its trace keys become OpenTelemetry spans and metrics."""
