"""The log and the tables beside it: the database, who writes it, what is read back. All SQL is here."""
