"""The dialect of xAI's gRPC API."""
