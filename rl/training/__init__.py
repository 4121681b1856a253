"""What `rl.train` does: one module for each kind of experiment, and what they share."""
