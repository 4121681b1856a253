"""Single Gymnasium environments as a batch, their actions as candidates.

What such an environment must offer: actions that can be counted, and observations that can be written as one vector.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces.utils import flatten, flatten_space

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.simulators.batched import BatchedEnv, Info, Observation
from rl.simulators.contract import EnvironmentContractError, check_spaces

MASK = "action_mask"
"""Under which environments tell, in an observation that is a Dict or in the information, which actions are allowed."""
DISCOUNT = 0.99
"""Of an environment that does not say by an attribute `discount` what a later reward is worth."""


class Singles(BatchedEnv):
    """B environments of one kind, stepped one after the other.

    Observation space: that of the environments where it has the fields of `rl.policy.queries.Query`. Any other is
        written as one vector, `features` [1, F], by Gymnasium's `flatten`; `items` [A] are the actions, numbered from
        1, and `mask` [A] those that the environment allows.
    Action space: positions on the candidate axis; of Discrete actions that start elsewhere the first is position 0.
    Episode end: that of the environment; one that it truncates counts as cut off, and its future still has a value.

    Args:
        envs: B of them.

    Raises:
        EnvironmentContractError: their actions are no candidates, or their observations no vector.
    """

    def __init__(self, envs: Sequence[gym.Env[Any, Any]]) -> None:
        self._envs, first = list(envs), envs[0]
        self.discount = float(getattr(first.unwrapped, "discount", DISCOUNT))  # type: ignore[misc]
        space, action = first.observation_space, first.action_space
        self._queries = isinstance(space, gym.spaces.Dict) and {"items", "mask"} <= space.spaces.keys()
        if not self._queries:
            space, action = self._as_query(space, action)
        check_spaces(space, action)
        super().__init__(len(envs), space, action)  # type: ignore[arg-type]
        self._rows: list[Observation] = [{}] * len(envs)

    def _as_query(self, space: gym.Space[Any], action: gym.Space[Any]) -> tuple[gym.Space[Any], gym.Space[Any]]:
        if not isinstance(action, gym.spaces.Discrete):
            raise EnvironmentContractError(
                f"action: needs a Discrete space, whose actions become candidates, got {action}"
            )
        self._first, self._n = int(action.start), int(action.n)
        self._described: gym.Space[Any] = space
        if isinstance(space, gym.spaces.Dict):
            self._described = gym.spaces.Dict({name: part for name, part in space.items() if name != MASK})
        try:
            flat: gym.Space[Any] = flatten_space(self._described)
        except NotImplementedError:
            flat = self._described
        if not isinstance(flat, gym.spaces.Box):
            raise EnvironmentContractError(f"observation: needs a space that Gymnasium flattens to a Box, got {space}")
        low, high = (np.asarray(end, dtype=np.float64)[None] for end in (flat.low, flat.high))
        fields: dict[str, gym.Space[Any]] = {
            "features": gym.spaces.Box(low, high, dtype=np.float64),
            "items": gym.spaces.Box(1, max(self._n, 2), (self._n,), np.int32),
            "mask": gym.spaces.MultiBinary(self._n),
        }
        return gym.spaces.Dict(fields), gym.spaces.Discrete(self._n)

    def start(self, rows: IntArray) -> None:
        """See `BatchedEnv.start`; each episode is seeded by a draw of the batch."""
        for row in rows.tolist():
            self._see(row, *self._envs[row].reset(seed=int(self.rng.integers(2**31))))

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        """See `BatchedEnv.advance`."""
        rewards, (terminated, truncated) = np.zeros(self.num_envs), np.zeros((2, self.num_envs), dtype=np.bool_)
        for row, env in enumerate(self._envs):
            action = actions[row] if self._queries else self._first + int(actions[row])
            observation, reward, terminated[row], truncated[row], info = env.step(action)
            rewards[row] = reward
            self._see(row, observation, info)
        if not np.isfinite(rewards).all():
            row = int(np.argmin(np.isfinite(rewards)))
            raise EnvironmentContractError(f"episode {row}: a reward must be finite, got {rewards[row]}")
        return rewards, terminated | truncated, {"truncated": truncated & ~terminated}

    def observe(self) -> Observation:
        """See `BatchedEnv.observe`."""
        return {name: np.stack([row[name] for row in self._rows]) for name in self._rows[0]}

    def _see(self, row: int, observation: Any, info: Info) -> None:
        """Keep the observation of one row as the fields of a query."""
        if self._queries:
            self._rows[row] = {name: np.array(value) for name, value in observation.items()}
            return
        mask = observation[MASK] if isinstance(observation, dict) and MASK in observation else info.get(MASK)
        seen = {name: observation[name] for name in self._described} if isinstance(observation, dict) else observation  # type: ignore[attr-defined]
        features = np.asarray(flatten(self._described, seen), dtype=np.float64)
        if not np.isfinite(features).all():
            raise EnvironmentContractError(f"episode {row}: an observation must be finite, got {seen}")
        self._rows[row] = {
            "features": features[None],
            "items": np.arange(1, self._n + 1, dtype=np.int32),
            "mask": np.ones(self._n, dtype=np.int8) if mask is None else np.array(mask, dtype=np.int8),
        }

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments; see `gymnasium.vector.VectorEnv.close`."""
        for env in self._envs:
            env.close()  # type: ignore[no-untyped-call]
