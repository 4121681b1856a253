"""What a policy expects of the candidates of a decision, and how sure it is, by what it knows now."""

from typing import NamedTuple

from data.schema import Decision
from serve.decisions.recommender import Recommender
from serve.explanations.views import see_actions


class Estimate(NamedTuple):
    """The posterior of an item's expected reward at a visit."""

    mean: float
    sd: float | None
    """None: the policy does not know."""


def estimate(recommender: Recommender, decision: Decision) -> dict[str, Estimate]:
    """Return the estimate of each candidate; of two policies that are interleaved there is no one estimate: {}."""
    if decision.teams:
        return {}
    view = see_actions(recommender, decision)
    means, deviations = view.policy.posterior(view.query)
    sds = [None] * means.shape[1] if deviations is None else deviations[0].tolist()
    return dict(zip(decision.candidates, map(Estimate, means[0].tolist(), sds), strict=True))
