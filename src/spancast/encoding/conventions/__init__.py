"""One pure function per convention: the canonical span in the words of a product."""
