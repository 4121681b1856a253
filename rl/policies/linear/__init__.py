"""Bayesian linear models and policies on them."""
