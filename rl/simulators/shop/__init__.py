"""The shop: a user with a hidden favourite."""
