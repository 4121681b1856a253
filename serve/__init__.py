"""Answer one request: the HTTP service and the online learner behind it."""
