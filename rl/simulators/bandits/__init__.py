"""Simulators of one step: a context, arms, a reward."""
