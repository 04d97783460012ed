"""One pure function per convention: maps the canonical span to the attributes of a product."""
