"""What a policy would have earned, from what another one has logged."""
