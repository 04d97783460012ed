"""The OTLP wire format: encoders for protobuf and JSON, and a decoder."""
