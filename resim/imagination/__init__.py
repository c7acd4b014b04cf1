"""Paths of one history become futures, and futures become scores."""
