"""Google's Gemini API and its twin on Vertex AI: generated content and embeddings."""
