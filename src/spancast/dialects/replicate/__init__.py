"""The dialect of Replicate's predictions."""
