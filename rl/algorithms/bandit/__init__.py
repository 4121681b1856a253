"""Contextual bandits as an RLlib algorithm."""
