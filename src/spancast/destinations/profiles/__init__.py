"""Attribute conventions: one file each, from the canonical span to the words one product reads."""
