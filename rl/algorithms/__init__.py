"""Algorithms of RLlib over the policies of `rl.policies`."""
