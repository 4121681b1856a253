"""What can be wrong with continuous training."""

from data.errors import RecommenderError


class RunError(RecommenderError):
    """A run cannot begin or go on; says why, and what would be right."""
