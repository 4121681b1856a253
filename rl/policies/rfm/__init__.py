"""The RFM bandit."""
