"""The transformer Q network and its policy."""
