"""Settings from keywords, environment variables and a file, and the errors in them."""
