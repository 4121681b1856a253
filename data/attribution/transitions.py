"""Transitions: rewards of decisions become rows (s, a, r, s', discount, propensity). Pure functions, no storage."""

import math
from collections.abc import Sequence

import pyarrow as pa
from pydantic_core import to_json

from data.attribution.join import Outcome
from data.schema import Decision

TRANSITION_SCHEMA = pa.schema(
    [
        ("decision_id", pa.string()),
        ("user_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("context", pa.string()),  # JSON
        ("candidates", pa.list_(pa.string())),
        ("slate", pa.list_(pa.string())),
        ("reward", pa.float64()),
        ("rewards", pa.list_(pa.float64())),  # one a slot
        ("propensity", pa.float64()),  # of the whole slate
        ("propensities", pa.list_(pa.float64())),  # one a slot
        ("next_decision_id", pa.string()),
        ("next_context", pa.string()),  # JSON
        ("next_candidates", pa.list_(pa.string())),
        ("discount", pa.float64()),  # 0 ends the episode
        ("policy", pa.string()),
        ("policy_version", pa.string()),
    ]
)
"""The columns of the transitions table; the `next_` columns are null at the end of an episode."""


def transitions(outcomes: Sequence[Outcome], discount: float, session_gap_s: float) -> pa.Table:
    """Make the transitions (s, a, r, s', discount, propensity) of the due outcomes, one row each, in the order given.

    The next decision s' is the same user's next by time (at equal times by the order given), due or not, if it was
    made within `session_gap_s` seconds. Where there is none, or no user, the episode ends and the row's discount is 0;
    so give a whole session: its last decision here is taken for its end. `discount` is that of the rewards, in [0, 1].

    Raises ValueError for a discount outside [0, 1].
    """
    if not 0.0 <= discount <= 1.0:
        raise ValueError(f"discount must be in [0, 1], got {discount}")
    following = _following([outcome.decision for outcome in outcomes], session_gap_s)
    rows = [_row(outcome, after, discount) for outcome, after in zip(outcomes, following, strict=True) if outcome.due]
    return pa.Table.from_pylist(rows, schema=TRANSITION_SCHEMA)


def _following(decisions: Sequence[Decision], session_gap_s: float) -> list[Decision | None]:
    """Return for each decision the same user's next one in the session, if any."""
    following: list[Decision | None] = [None] * len(decisions)
    last: dict[str, int] = {}
    for place in sorted(range(len(decisions)), key=lambda place: decisions[place].time):
        decision = decisions[place]
        if decision.user_id is None:
            continue
        before = last.get(decision.user_id)
        if before is not None and (decision.time - decisions[before].time).total_seconds() <= session_gap_s:
            following[before] = decision
        last[decision.user_id] = place
    return following


def _row(outcome: Outcome, after: Decision | None, discount: float) -> dict[str, object]:
    decision = outcome.decision
    return {
        "decision_id": decision.decision_id,
        "user_id": decision.user_id,
        "time": decision.time,
        "context": to_json(decision.context).decode(),
        "candidates": decision.candidates,
        "slate": decision.slate,
        "reward": outcome.reward,
        "rewards": outcome.rewards,
        "propensity": math.prod(decision.propensities),
        "propensities": decision.propensities,
        "next_decision_id": after and after.decision_id,
        "next_context": after and to_json(after.context).decode(),
        "next_candidates": after and after.candidates,
        "discount": discount if after else 0.0,
        "policy": decision.policy,
        "policy_version": decision.policy_version,
    }
