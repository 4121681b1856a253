"""PostgreSQL, which the log is kept in where it has outgrown one machine: all that is said in its dialect."""
