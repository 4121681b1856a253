"""What happened: the log, what nodes send, and how it becomes training data. Imports nothing of ours."""
