"""Post: ended spans to every destination, without loss and off the caller's thread."""
