"""Algorithms of RLlib over the policies of `rl.policies`. Each module needs ray and torch."""
