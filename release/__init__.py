"""Build a release and try it as a stranger would: ``make release``."""
