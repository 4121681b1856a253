"""What a policy earns in a simulator."""

from dataclasses import dataclass

import numpy as np

from rl.policy.arrays import FloatArray, IntArray
from rl.policy.interface import Policy
from rl.policy.queries import Query
from rl.simulators.batched import BatchedEnv


@dataclass(frozen=True)
class Returns:
    """Undiscounted sums of rewards of whole episodes."""

    of_episodes: FloatArray
    """[episodes]."""
    lengths: IntArray
    """[episodes] steps."""

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.of_episodes.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean; not a number for a single episode."""
        return float(self.of_episodes.std(ddof=1) / np.sqrt(len(self.of_episodes)))


def play(policy: Policy, env: BatchedEnv, episodes: int, seed: int, rng: np.random.Generator) -> Returns:
    """Play whole episodes; in each of the B rows as many, so that short episodes are not preferred.

    Args:
        policy: decides by its own explorer.
        env: any simulator.
        episodes: how many at least; rounded up to a multiple of B.
        seed: of the simulator.
        rng: of the policy's draws.
    """
    of_row = -(-episodes // env.num_envs)
    slate = env.single_action_space.shape
    observation, _ = env.reset(seed=seed)
    returns, running = [], np.zeros(env.num_envs)
    lengths, steps = [], np.zeros(env.num_envs, dtype=np.int64)
    left = np.full(env.num_envs, of_row)
    while left.any():
        slates = policy.decide(Query.of(observation), slate[0] if slate else 1, rng)
        observation, rewards, terminated, truncated, _ = env.step(slates.positions if slate else slates.positions[:, 0])
        running += rewards
        steps += 1
        ended = terminated | truncated
        if ended.any():
            counted = ended & (left > 0)
            returns.append(running[counted])
            lengths.append(steps[counted])
            left -= counted
            running[ended], steps[ended] = 0.0, 0
    return Returns(np.concatenate(returns), np.concatenate(lengths))
