"""SlateQ as an RLlib algorithm."""
