"""What the numbers of an A/B test say: ratios by user, intervals, sample ratios, power."""
