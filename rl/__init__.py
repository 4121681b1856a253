"""How to decide and how to learn: policies, simulators, training."""
