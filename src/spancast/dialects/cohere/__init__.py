"""Dialects of Cohere."""
