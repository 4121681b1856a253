"""Deep Q learning as an RLlib algorithm."""
