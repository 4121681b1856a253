"""Transitions as the flat columns that the replay keeps and the learner reads. Needs ray."""

import numpy as np
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from rl.algorithms.rollout import Transitions

Columns = dict[str, np.ndarray]


def batch_of(transitions: Transitions, following: str) -> Columns:
    """Return the observation's columns by name, those of the next one after the prefix `following`, and the rest.

    Where no transition has a future (every discount is 0) there are no `discounts` and no next observation.
    """
    columns = {name: _narrow(column) for name, column in transitions.observation.items()}
    columns |= {
        "actions": transitions.actions,
        "propensities": transitions.propensities.astype(np.float32),
        "rewards": transitions.rewards.astype(np.float32),
        **{name: _narrow(column) for name, column in transitions.logged.items()},
    }
    if transitions.has_future:
        columns["discounts"] = transitions.discounts.astype(np.float32)
        columns |= {following + name: _narrow(column) for name, column in transitions.next_observation.items()}
    return columns


def as_multi_agent(columns: Columns) -> MultiAgentBatch:
    """Return columns in the form that RLlib's learner group hands on."""
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, len(columns["rewards"]))


def _narrow(column: np.ndarray) -> np.ndarray:
    return column.astype(np.float32) if column.dtype == np.float64 else column
