"""Policies that forget: the same policy on windows of the log, of which the one that predicts best answers."""
