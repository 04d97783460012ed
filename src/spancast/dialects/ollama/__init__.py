"""Dialects of Ollama's own API."""
