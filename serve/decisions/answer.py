"""A decision as it is answered and shown."""

from data.schema import Decision
from serve.contracts.decisions import PolicyVersion, RecommendedItem, RecommendResponse


def respond(decision: Decision, learned_through: int) -> RecommendResponse:
    """Return a decision as it is answered, by a replica that has seen the feedback up to a log position."""
    # In one validation: a model built for each slot takes twice as long.
    return RecommendResponse.model_validate(
        {
            "decision_id": decision.decision_id,
            "items": _slots(decision),
            "policy": {"name": decision.policy, "version": decision.policy_version},
            "learned_through": learned_through,
        }
    )


def list_items(decision: Decision) -> list[RecommendedItem]:
    """Return the slots of a decision's slate."""
    return [RecommendedItem.model_validate(slot) for slot in _slots(decision)]


def policy_version(decision: Decision) -> PolicyVersion:
    """Return which policy made a decision."""
    return PolicyVersion(name=decision.policy, version=decision.policy_version)


def _slots(decision: Decision) -> list[dict[str, object]]:
    slots = zip(decision.slate, decision.scores, decision.propensities, strict=True)
    return [{"item_id": item, "score": score, "propensity": propensity} for item, score, propensity in slots]
