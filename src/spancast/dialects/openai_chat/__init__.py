"""OpenAI Chat Completions and servers compatible with it."""
