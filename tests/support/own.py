"""Environments as somebody else writes them: a corridor, a game that tells its moves, and what cannot be played."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.simulators.batched import BatchedEnv, Info, Observation


class Corridor(gym.Env[Any, Any]):
    """Walk right to the end, place `length`: each step costs .1, the end pays 1; cut off after `limit` steps."""

    discount = 0.9

    def __init__(self, length: int = 3, limit: int = 20) -> None:
        self.length, self.limit = length, limit
        self.observation_space = gym.spaces.Discrete(length + 1)
        self.action_space = gym.spaces.Discrete(2, start=-1)  # -1: to the left, 0: to the right

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.steps = 0, 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.place = max(0, self.place + (1 if action == 0 else -1))
        self.steps += 1
        ended = self.place == self.length
        return self.place, 1.0 if ended else -0.1, ended, self.steps >= self.limit and not ended, {}


class Configured(Corridor):
    """As RLlib's own examples are made: by one dictionary."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(**config)


class Masked(gym.Env[Any, Any]):
    """One of three moves is allowed, which the observation says; it pays 1."""

    def __init__(self) -> None:
        numbers = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = gym.spaces.Dict({"action_mask": gym.spaces.MultiBinary(3), "board": numbers})
        self.action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.allowed = int(self.np_random.integers(3))
        return self._seen(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), float(action == self.allowed), True, False, {}

    def _seen(self) -> dict[str, Any]:
        return {"action_mask": np.eye(3, dtype=np.int8)[self.allowed], "board": np.zeros(2, np.float32)}


class Coins(BatchedEnv):
    """Two coins, the second of which pays `pays`; batched, as `rl.simulators.batched` says."""

    one_step: ClassVar[bool] = True

    def __init__(self, num_envs: int = 1, pays: float = 1.0) -> None:
        features = gym.spaces.Box(0, 1, (1, 1), np.float64)  # a constant: there is nothing to tell
        spaces = {
            "items": gym.spaces.Box(1, 2, (2,), np.int64),
            "mask": gym.spaces.MultiBinary(2),
            "features": features,
        }
        super().__init__(num_envs, gym.spaces.Dict(spaces), gym.spaces.Discrete(2))
        self.pays = pays

    def start(self, rows: IntArray) -> None:
        """Nothing is kept."""

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        return (actions * self.pays).astype(np.float64), np.ones(self.num_envs, dtype=np.bool_), {}

    def observe(self) -> Observation:
        items, mask = np.tile([1, 2], (self.num_envs, 1)), np.ones((self.num_envs, 2), dtype=np.int8)
        return {"items": items, "mask": mask, "features": np.ones((self.num_envs, 1, 1))}


class Torque(Corridor):
    """Its action is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)


class Graph(Corridor):
    """Its observation is no vector."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = gym.spaces.Graph(gym.spaces.Discrete(2), None)


class Unreal(Corridor):
    """It earns what is no number."""

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return 0, float("nan"), False, False, {}


class Misplaced(Coins):
    """It shows less than it says."""

    def observe(self) -> Observation:
        return super().observe() | {"items": np.array([1, 2])}
