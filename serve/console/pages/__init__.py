"""The pages. Each module has `PAGE`, which is its entry in the navigation, and `router`."""
