"""Q learning from a table of logged transitions, as an RLlib algorithm."""
