"""SQLite, which the log is kept in by default: all that is said in its dialect, and the file that a log is."""
