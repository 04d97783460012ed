"""Data types and pure functions that every other part of the package may import."""
