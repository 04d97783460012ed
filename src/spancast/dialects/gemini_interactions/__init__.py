"""Interactions of the Gemini API."""
