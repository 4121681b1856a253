"""Offline evaluations and feature importances: what other learning policies would have earned, and what they go by."""
