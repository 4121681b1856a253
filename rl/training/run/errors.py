"""What can be wrong with a training."""

from data.errors import RecommenderError


class TrainingError(RecommenderError):
    """A training cannot begin or go on; says why, and what would be right."""
