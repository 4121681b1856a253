"""What an A/B test says: how variants compare with the control, at every look."""
