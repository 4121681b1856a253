"""What all simulators share: a batch of episodes stepped by one call, and one episode as a plain environment.

A simulator is a subclass of `BatchedEnv`. Its observations are dictionaries of arrays with the names of
`rl.policy.queries.Query`, its actions are positions on the candidate axis.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.simulators.contract import check_observation
from rl.simulators.spaces import batch_actions, check_actions, entropy

Observation = dict[str, np.ndarray]
Info = dict[str, Any]


class BatchedEnv(gym.vector.VectorEnv[Observation, IntArray, Any]):
    """B episodes that are stepped together; one that has ended starts again in the same step.

    A subclass says in `discount` what a later reward is worth, in `one_step` whether every episode is a single step,
    and names in `logged` the information arrays (all [B, ...]) that a learner may want beside the reward.
    """

    metadata = {  # noqa: RUF012 - as Gymnasium declares it
        "autoreset_mode": gym.vector.AutoresetMode.SAME_STEP
    }
    discount: ClassVar[float] = 0.0
    one_step: ClassVar[bool] = False
    logged: ClassVar[tuple[str, ...]] = ()

    single_observation_space: gym.spaces.Dict

    def __init__(self, num_envs: int, observation: gym.spaces.Dict, action: gym.Space[Any]) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = observation, action
        self.observation_space = batch_space(observation, num_envs)
        self.action_space = batch_actions(action, num_envs)
        self.rng = np.random.default_rng()

    @abstractmethod
    def start(self, rows: IntArray) -> None:
        """Start new episodes in the given rows."""

    @abstractmethod
    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        """Take one step in every row; returns rewards [B], which episodes have ended [B], and information.

        The information may have `truncated` [B]: which of those that have ended were cut off before their end.
        """

    @abstractmethod
    def observe(self) -> Observation:
        """Return the observation of every row, as arrays that later steps do not change."""

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Seed the draws of all rows, and start B episodes.

        The rows of a batch are drawn together: the same seed, or the same B seeds, give the same B episodes, but no
        episode depends on its own seed alone.

        Raises:
            ValueError: there are not as many seeds as rows, or one is negative.
            EnvironmentContractError: what is observed is not what the observation space says.
        """
        if seed is not None:
            self.rng = np.random.default_rng(entropy(seed, self.num_envs))
        self.start(np.arange(self.num_envs))
        self._shown = self.observe()
        check_observation(self._shown, self.single_observation_space, self.num_envs)
        return self._shown, {}

    def step(self, actions: IntArray) -> tuple[Observation, FloatArray, BoolArray, BoolArray, Info]:
        """Step every row. Where an episode has ended, `info["final_obs"]` (a batched observation) has its last state.

        An episode of one step has no state after it: there the last one is what was shown.

        Raises:
            ActionError: an action is not in the action space; no episode has moved.
        """
        rewards, ended, info = self.advance(check_actions(actions, self.single_action_space, self.num_envs))
        truncated = info.pop("truncated", np.zeros_like(ended))
        if ended.any():
            info["final_obs"] = self._shown if self.one_step else self.observe()
            info["_final_obs"] = ended
            self.start(np.flatnonzero(ended))
        self._shown = self.observe()
        return self._shown, rewards, ended & ~truncated, truncated, info


class SingleEnv(gym.Env[Observation, Any]):
    """One row of a `BatchedEnv` as a plain Gymnasium environment."""

    def __init__(self, batched: BatchedEnv) -> None:
        assert batched.num_envs == 1, "a single environment is a batch of one"
        self._batched = batched
        self.observation_space, self.action_space = batched.single_observation_space, batched.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Start an episode."""
        super().reset(seed=seed)
        observation, info = self._batched.reset(seed=seed, options=options)
        return _row(observation), _row(info)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """Take one step; after the last one `reset` is needed, as usual."""
        observation, rewards, terminated, truncated, info = self._batched.step(np.asarray(action)[None])
        if terminated[0] or truncated[0]:
            observation = info.pop("final_obs")
            info.pop("_final_obs")
        return _row(observation), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), _row(info)


def _row(batch: dict[str, Any]) -> dict[str, Any]:
    """Return the only row of each array."""
    return {name: array[0] for name, array in batch.items()}
