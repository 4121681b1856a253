"""A trained policy on disk."""
