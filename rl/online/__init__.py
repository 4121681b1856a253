"""Learning from the log as it grows."""
