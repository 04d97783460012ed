"""Destinations: configuration and delivery per type."""
