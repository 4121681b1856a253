"""Formats of other programs, one folder each."""
