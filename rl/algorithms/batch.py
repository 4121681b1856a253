"""Transitions as columns, as runners sample them, as the replay keeps them, and as the learner reads them."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from rl.experience.checks import NEXT, Columns
from rl.policy.arrays import FloatArray, IntArray
from rl.simulators.batched import Observation

PROPENSITIES = "propensities"
"""What a module returns with the actions that it draws: the probability of each slot's item, [B, K]."""


@dataclass(frozen=True)
class Transitions:
    """N transitions as columns, those of one step of the environments next to each other."""

    observation: Observation
    """What the policy saw: arrays [N, ...]."""
    actions: IntArray
    """[N, K] positions on the candidate axis."""
    propensities: FloatArray
    """[N, K] of each slot's item given the slots before it."""
    rewards: FloatArray
    """[N] discounted sum over up to n steps."""
    discounts: FloatArray
    """[N] what the next state's value counts: γ to the number of summed steps, 0 where the episode has ended."""
    next_observation: Observation
    """What the policy would see after those steps; of no meaning where the discount is 0."""
    logged: Columns
    """[N, ...] the environment's `logged` information of the first step."""
    has_future: bool = True
    """False where γ is 0: all discounts are 0 and the next observation is never needed."""

    def __len__(self) -> int:
        return len(self.rewards)

    @classmethod
    def concatenate(cls, parts: "list[Transitions]") -> "Transitions":
        """Join several in order; at least one is needed."""
        columns = [f.name for f in fields(cls) if f.name != "has_future"]
        joined = {name: _join([getattr(part, name) for part in parts]) for name in columns}
        return cls(**joined, has_future=parts[0].has_future)


def to_columns(transitions: Transitions) -> Columns:
    """Return the observation's columns by name, those of the next one after the prefix `NEXT`, and the rest.

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
        columns |= {NEXT + name: _narrow(column) for name, column in transitions.next_observation.items()}
    return columns


def to_multi_agent(columns: Columns) -> MultiAgentBatch:
    """Return columns in the form that RLlib's learner group hands on."""
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, len(columns["rewards"]))


def _narrow(column: np.ndarray) -> np.ndarray:
    return column.astype(np.float32) if column.dtype == np.float64 else column


def _join(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)
