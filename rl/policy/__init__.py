"""The interface of a policy: queries, explorers, distributions, rules."""
