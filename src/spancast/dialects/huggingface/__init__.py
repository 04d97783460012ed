"""The dialects of Hugging Face's own inference servers."""
