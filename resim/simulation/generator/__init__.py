"""Procedural scenes from seeds."""
