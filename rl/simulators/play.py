"""A policy and a simulator, step by step: the loop of every simulated training.

An environment gives the fields of `rl.policy.queries.Query` as its observation and each slot's reward in
`info["rewards"]`.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from rl.policy.arrays import FloatArray, IntArray
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query


class SlateEnv(Protocol):
    """A batched environment of B visits a step; see `rl.simulators.market.retail` for one."""

    num_envs: int
    k: int

    def reset(self, *, seed: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start B visits."""
        ...

    def step(self, actions: IntArray) -> tuple[dict[str, Any], FloatArray, Any, Any, dict[str, Any]]:
        """Show slates [B, K]."""
        ...


def interact(
    policy: Policy, env: SlateEnv, steps: int, seed: int, rng: np.random.Generator
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Let the policy answer `steps` batches of B visits and learn after each.

    Args:
        policy: changed in place.
        env: the simulator.
        steps: number of batches.
        seed: of the simulator.
        rng: of the policy's draws.

    Yields:
        The slates' rewards and their expected rewards under the simulator, both [B].
    """
    observation, _ = env.reset(seed=seed)
    for _ in range(steps):
        query = Query(**observation)
        slates = policy.decide(query, env.k, rng)
        observation, rewards, _, _, info = env.step(slates.positions)
        policy.update(Impressions.of_slates(query, slates, info["rewards"]))
        yield rewards, info["expected"]
