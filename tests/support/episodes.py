"""Whole episodes in a simulator, by a rule that names the actions; shared by the tests of simulators."""

from collections.abc import Callable
from math import hypot

import numpy as np

from rl.policy.arrays import FloatArray, IntArray
from rl.simulators.batched import BatchedEnv, Observation

Rule = Callable[[Observation], IntArray]


def returns(env: BatchedEnv, rule: Rule, seed: int) -> FloatArray:
    """Return the undiscounted return of the first episode in every row, [B]."""
    observation, _ = env.reset(seed=seed)
    total, going = np.zeros(env.num_envs), np.ones(env.num_envs, dtype=np.bool_)
    while going.any():
        observation, rewards, ended, _, _ = env.step(rule(observation))
        total += rewards * going
        going &= ~ended
    return total


def assert_mean(sample: FloatArray, expected: float, error: float = 0.0) -> None:
    """Check that a sample's mean is the expected one, within four standard errors of both."""
    tolerance = 4 * hypot(float(sample.std()) / np.sqrt(len(sample)), error)
    assert abs(sample.mean() - expected) <= tolerance, f"{sample.mean():.4f}, expected {expected} +- {tolerance:.4f}"
