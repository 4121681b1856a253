"""From the log to what a policy learns: outcomes become observations. Light: numpy.

The online learner and batch training both go through here, so what the one has learned from a log is what the other
would.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from data.attribution import Outcome
from data.schema import Decision
from rl.encoding import Visit, VisitEncoder
from rl.policy import Observations, Query


def observe(outcomes: Sequence[Outcome], encoder: VisitEncoder) -> Observations:
    """Observe the rewards of every slot of the outcomes, in order (at least one); N is the number of slots of all."""
    decisions = [outcome.decision for outcome in outcomes]
    rewards = np.array([reward for outcome in outcomes for reward in outcome.rewards], dtype=np.float64)
    return _shown(decisions, rewards, np.ones(len(rewards)), encoder)


def correct(outcomes: Sequence[tuple[Outcome, tuple[float, ...]]], encoder: VisitEncoder) -> Observations:
    """Observe how much the rewards of outcomes differ, slot by slot, from those given that were observed before."""
    decisions = [outcome.decision for outcome, _ in outcomes]
    now = [reward for outcome, _ in outcomes for reward in outcome.rewards]
    before = [reward for _, rewards in outcomes for reward in rewards]
    difference = np.array(now, dtype=np.float64) - np.array(before, dtype=np.float64)
    return _shown(decisions, difference, np.zeros(len(difference)), encoder)


def encode(
    users: Sequence[str | None], times: Sequence[datetime], candidates: Sequence[Sequence[str]], encoder: VisitEncoder
) -> Query:
    """Encode B visits with A candidates each (as many in every visit)."""
    return encoder.query([Visit(*visit) for visit in zip(users, times, candidates, strict=True)])


def _shown(
    decisions: Sequence[Decision], rewards: np.ndarray, counts: np.ndarray, encoder: VisitEncoder
) -> Observations:
    """Encode every slot of every decision as a row of its own."""
    slots = [(decision.user_id, decision.visit_time, item) for decision in decisions for item in decision.slate]
    query = encode([s[0] for s in slots], [s[1] for s in slots], [[s[2]] for s in slots], encoder)
    return Observations(query.features[:, 0], query.state, query.items[:, 0], rewards, counts)
