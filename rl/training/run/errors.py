"""What can be wrong with a training. Light."""


class TrainingError(ValueError):
    """A training cannot begin or go on; says why, and what would be right."""
