"""Instrumentation of SDKs and functions: one module per SDK, and the modules they share."""
