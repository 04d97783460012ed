"""Mistral's Conversations API."""
