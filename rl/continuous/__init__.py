"""Continuous training: what the log has new becomes a challenger, and the champion where the gate lets it through."""
