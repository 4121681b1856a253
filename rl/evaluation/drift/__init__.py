"""Detectors of change in a stream of decisions, with a stated rate of false alarms."""
