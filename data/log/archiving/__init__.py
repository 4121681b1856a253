"""Rows of the log on their way to the archive and out of it: which days are closed, how they move, what is erased."""
