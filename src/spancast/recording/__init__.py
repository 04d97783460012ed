"""Tell: an exchange and its trace keys become OpenTelemetry spans and metrics."""
