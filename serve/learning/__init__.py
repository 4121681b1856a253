"""Which folds a learner runs."""
