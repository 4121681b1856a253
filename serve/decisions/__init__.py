"""Decide, commit, answer: what a replica does, without HTTP."""
