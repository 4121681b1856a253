"""What off-policy evaluation raises."""

from data.errors import RecommenderError


class EvaluationError(RecommenderError):
    """A log or a policy that cannot be evaluated: what is wrong, where, and what would be right."""
