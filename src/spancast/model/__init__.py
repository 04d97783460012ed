"""The nouns: plain data that every other room may import."""
