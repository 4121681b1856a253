"""What people look at: the newest of the log, and how much there is."""
