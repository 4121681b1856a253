"""From files and requests of nodes to events and rejects in the archive."""
