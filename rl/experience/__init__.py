"""Where training data comes from: transitions and events."""
