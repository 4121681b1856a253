"""What a policy would have earned in the sessions of a transitions table, which another one has made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rl.evaluation.offpolicy.episodes import EpisodeLog, arrange, doubly_robust, weighted_is
from rl.evaluation.offpolicy.intervals import hall
from rl.evaluation.offpolicy.support import largest_share
from rl.experience.checks import SEEN, Columns
from rl.experience.transitions import to_numpy
from rl.policy.arrays import FloatArray
from rl.policy.interface import Policy
from rl.policy.queries import Query

_LEAST_EPISODES = 50
_LARGEST_SHARE = 0.25


def judge(policy: Policy, held_out: Sequence[Path], discount: float, rng: np.random.Generator) -> dict[str, Any]:
    """Estimate what a policy would have earned in sessions that it has not learned from.

    Returns:
        The mean `behaviour_return` of the sessions as they were; `return`, what the policy would have earned in its
        place, with the ends of its 95 % interval; or `abstained`, why the log cannot tell.
    """
    tables = [to_numpy(pq.read_table(path)) for path in held_out]
    if not tables:
        return {"abstained": "nobody was held out"}
    names = ("episode", "step", "rewards", "propensities")
    columns = {name: np.concatenate([table[name] for table in tables]) for name in names}
    p, taken, expected = (
        np.concatenate(of) for of in zip(*(_ask(policy, table, rng) for table in tables), strict=True)
    )
    log = EpisodeLog.of(columns, p, discount)
    report: dict[str, Any] = {
        "sessions_held_out": len(log.rewards),
        "behaviour_return": float((log.discounts * np.where(log.alive, log.rewards, 0.0)).sum(axis=1).mean()),
    }
    if len(log.rewards) < _LEAST_EPISODES:
        return report | {"abstained": f"fewer than {_LEAST_EPISODES} sessions say nothing of their own spread"}
    if log.alive.sum() == len(p):  # one row a step: the network, which knows none of these sessions, is a model of it
        estimate = doubly_robust(log, *(arrange(columns, values) for values in (taken, expected)), weighted=True)
    else:
        estimate = weighted_is(log)
    if not np.isfinite(estimate.terms).all():
        return report | {"abstained": "the log never does what the policy would"}
    if (share := largest_share(estimate.terms)) > _LARGEST_SHARE:
        return report | {"abstained": f"one session makes up {share:.0%} of the estimate's spread"}
    interval = hall(estimate.terms)
    return report | {"return": estimate.value, "return_low": interval.low, "return_high": interval.high}


def _ask(policy: Policy, columns: Columns, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the probability [N] with which a policy takes the action of each row, its value and the policy's [N]."""
    query = Query.of({name: columns[name] for name in SEEN if name in columns})
    scores, values = policy.score(query, rng)
    distribution, rows = policy.explorer.probabilities(scores, query.mask), np.arange(len(query))
    action = columns["actions"][:, 0]
    expected: FloatArray = (distribution * np.where(query.mask, values, 0.0)).sum(axis=1)
    return distribution[rows, action], values[rows, action], expected
