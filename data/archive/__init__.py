"""Ingested events and rejects as Parquet, and how a user is taken out of them."""
