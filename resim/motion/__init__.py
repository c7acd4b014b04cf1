"""Closed forms of motion, written once."""
