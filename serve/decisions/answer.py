"""A decision as it is answered and shown."""

from data.schema import Decision
from serve.contracts.decisions import PolicyVersion, RecommendedItem, RecommendResponse


def respond(decision: Decision, learned_through: int) -> RecommendResponse:
    """Return a decision as it is answered, by a replica that has seen the feedback up to a log position."""
    return {
        "decision_id": decision.decision_id,
        "items": list_items(decision),
        "policy": policy_version(decision),
        "learned_through": learned_through,
    }


def list_items(decision: Decision) -> list[RecommendedItem]:
    """Return the slots of a decision's slate."""
    slots = zip(decision.slate, decision.scores, decision.propensities, strict=True)
    return [{"item_id": item, "score": score, "propensity": propensity} for item, score, propensity in slots]


def policy_version(decision: Decision) -> PolicyVersion:
    """Return which policy made a decision."""
    return {"name": decision.policy, "version": decision.policy_version}
