"""What the one-step simulators share: a context, A arms, and an exact expected reward of each."""

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.simulators.batched import BatchedEnv, Info, Observation


class ContextualBandit(BatchedEnv):
    """B contexts, each answered with one of A arms: episodes of one step.

    Every one-step simulator informs of `expected` [B], the expected reward of the arm that was taken, and `best` [B],
    that of the best arm for the same context: regret is the sum of their differences, free of the rewards' noise.
    """

    discount = 0.0
    one_step = True
    logged = ("expected", "best")

    def __init__(self, num_envs: int, arms: int, low: FloatArray, high: FloatArray, **more: gym.Space[Any]) -> None:
        """Take the number of arms, the bounds of the context's features, both [D], and what else is observed."""
        observation = gym.spaces.Dict(
            {
                "features": gym.spaces.Box(low[None, :], high[None, :], dtype=np.float64),
                "items": gym.spaces.Box(1, max(arms, 2), (arms,), np.int32),
                "mask": gym.spaces.MultiBinary(arms),
                **more,
            }
        )
        super().__init__(num_envs, observation, gym.spaces.Discrete(arms))
        self._items = np.broadcast_to(np.arange(1, arms + 1, dtype=np.int32), (num_envs, arms))
        self._mask = np.ones((num_envs, arms), dtype=np.int8)

    @abstractmethod
    def visit(self) -> tuple[FloatArray, FloatArray]:
        """Draw B contexts; returns their features [B, D] and the expected reward of every arm [B, A]."""

    @abstractmethod
    def ceilings(self) -> dict[str, float]:
        """Return the exact mean reward of the `oracle`, of `random`, and of the best `fixed` arm."""

    def expected_rewards(self) -> FloatArray:
        """Return the expected reward of every arm in the contexts that are shown now, [B, A]."""
        return self._expected

    def earn(self, actions: IntArray, expected: FloatArray) -> FloatArray:
        """Draw the rewards of the arms taken, [B], around their expectations [B]; by default they have no noise."""
        return expected

    def start(self, rows: IntArray) -> None:
        """See `BatchedEnv.start`; all rows start together, because all end at every step."""
        assert len(rows) == self.num_envs
        self._features, self._expected = self.visit()

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        """See `BatchedEnv.advance`."""
        expected = self._expected[np.arange(self.num_envs), actions]
        info = {"expected": expected, "best": self._expected.max(axis=1)}
        return self.earn(actions, expected), np.ones(self.num_envs, dtype=np.bool_), info

    def observe(self) -> Observation:
        """See `BatchedEnv.observe`."""
        return {"features": self._features[:, None, :], "items": self._items, "mask": self._mask}
