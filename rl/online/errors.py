"""What can be wrong with a saved state."""

from data.errors import RecommenderError


class SnapshotError(RecommenderError):
    """A folder does not hold a fold's state, or not one that a policy can go on from."""
