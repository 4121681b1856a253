"""Records into the log: rows made of them, and transactions that insert each once."""
