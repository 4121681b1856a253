"""Probes: environments so small that the value of every action is known exactly."""

from typing import ClassVar

import gymnasium as gym
import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.simulators.batched import BatchedEnv, Info, Observation

ACTIONS = 3
GAMMA = 0.5


class Probe(BatchedEnv):
    """Three items and a feature; a subclass says what is earned and when the episode ends.

    `values` [states, 3] are the exact values of all actions where the feature is `features[state]`.
    """

    features: ClassVar[tuple[float, ...]] = (0.0,)
    values: ClassVar[FloatArray]
    one_step = True

    def __init__(self, num_envs: int) -> None:
        observation = gym.spaces.Dict(
            {
                "features": gym.spaces.Box(-1, 1, (1, 1), np.float32),
                "items": gym.spaces.Box(1, ACTIONS, (ACTIONS,), np.int32),
                "mask": gym.spaces.MultiBinary(ACTIONS),
            }
        )
        super().__init__(num_envs, observation, gym.spaces.Discrete(ACTIONS))
        self.state = np.zeros(num_envs, dtype=np.int64)

    def start(self, rows: IntArray) -> None:
        self.state[rows] = self.rng.integers(len(self.features), size=len(rows))

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        return self.values[self.state, actions], np.ones(self.num_envs, dtype=np.bool_), {}

    def observe(self) -> Observation:
        return {
            "features": np.array(self.features, dtype=np.float32)[self.state][:, None, None],
            "items": np.tile(np.arange(1, ACTIONS + 1, dtype=np.int32), (self.num_envs, 1)),
            "mask": np.ones((self.num_envs, ACTIONS), dtype=np.int8),
        }


class Constant(Probe):
    """Whatever is done earns .7."""

    values = np.full((1, ACTIONS), 0.7)


class OfContext(Probe):
    """The feature says what is earned."""

    features = (-1.0, 1.0)
    values = np.array([[-0.5] * ACTIONS, [0.8] * ACTIONS])


class OfAction(Probe):
    """The action says what is earned."""

    values = np.array([[0.0, 1.0, 0.4]])


class TwoSteps(Probe):
    """The first action earns nothing, the second step pays 1 whatever is done; the last action of the first step ends.

    Its value is the discounted 1 for the first two actions, and 0 for the third.
    """

    features = (-1.0, 1.0)
    values = np.array([[GAMMA, GAMMA, 0.0], [1.0, 1.0, 1.0]])
    one_step = False
    discount = GAMMA

    def start(self, rows: IntArray) -> None:
        self.state[rows] = 0

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        second = self.state == 1
        ended = second | (actions == ACTIONS - 1)
        self.state = np.where(ended, self.state, 1)
        return second.astype(np.float64), ended, {}


PROBES: dict[str, type[Probe]] = {
    "raycommend/Constant-v0": Constant,
    "raycommend/OfContext-v0": OfContext,
    "raycommend/OfAction-v0": OfAction,
    "raycommend/TwoSteps-v0": TwoSteps,
}
