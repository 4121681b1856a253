"""Decisions made again from the log."""
