"""The support conversation of ``spancast demo``, against the replay server."""
