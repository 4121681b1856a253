"""Simulated users over HTTP: they ask, look, click, buy and report, at a given rate, and not always in good order."""
