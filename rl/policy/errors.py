"""What policies refuse."""

from data.errors import RecommenderError


class PolicyError(RecommenderError):
    """A policy was asked for what it cannot give; says what, and what would be right."""
