"""What the rooms of A/B tests refuse."""

from data.errors import RecommenderError


class ABTestRefused(RecommenderError):  # noqa: N818 - an answer to whoever gave the command
    """A test cannot be started or changed; says why, and what would be right."""


class UnknownABTest(ABTestRefused):
    """There is no test of this name."""
