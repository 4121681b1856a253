"""Rows of the log that lie in Parquet: which, in which files, and how they are read beside those of the database."""
