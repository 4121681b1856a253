"""From visits to queries: what a policy is given to decide by."""
