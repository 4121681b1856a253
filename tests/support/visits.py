"""Visits to a recommender, for tests that do not choose candidates of their own."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rl.encoders.visit import Visit
from serve.decisions.recommender import Recommender


def visit(
    recommender: Recommender,
    decision_id: str,
    time: datetime,
    k: int = 1,
    user_id: str | None = None,
    candidates: Sequence[str] | None = None,
    policy: str | None = None,
    **fields: Any,
) -> Visit:
    """Return a visit; without candidates it is to the catalogue of the policy that will decide."""
    if candidates is None:
        candidates = recommender.catalogue(recommender.choose_policy(policy, user_id or decision_id))
    return Visit(user_id, time, candidates, decision_id=decision_id, k=k, policy=policy, **fields)
