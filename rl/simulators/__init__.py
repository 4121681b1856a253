"""Simulators: customers with known preferences, stepped as batches, with known ceilings."""
