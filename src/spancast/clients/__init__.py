"""Hear: where an SDK is touched. The laws of wrapping (design §4) hold for every row."""
