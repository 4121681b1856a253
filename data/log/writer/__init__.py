"""Group commit: many requests, one transaction, in a process of its own."""
