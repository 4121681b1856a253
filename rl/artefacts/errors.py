"""What is wrong with an artefact."""

from data.errors import RecommenderError


class ArtefactError(RecommenderError):
    """A folder does not hold a policy that this version can serve; says why."""
