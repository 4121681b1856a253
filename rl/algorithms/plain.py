"""RLlib's own sampling and replay for our algorithms: what `rl.algorithms.bypass` goes past."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers.vector import DictInfoToList
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.replay_buffers.prioritized_episode_buffer import PrioritizedEpisodeReplayBuffer

from rl.algorithms.batch import PROPENSITIES, Transitions, to_columns
from rl.algorithms.sampling import make_one
from rl.experience.checks import Columns
from rl.policy.arrays import FloatArray
from rl.simulators.batched import SingleEnv


class PlainEnvRunner(SingleAgentEnvRunner):
    """RLlib's runner, in the environments that our configurations name (`make_one`), one after the other."""

    def make_env(self) -> None:
        """Make the B environments."""
        rows = self.config.num_envs_per_env_runner
        self.env = DictInfoToList(
            gym.vector.SyncVectorEnv([lambda: SingleEnv(make_one(self.config)) for _ in range(rows)])
        )
        self.num_envs = rows
        self._needs_initial_reset = True


class PlainReplay:
    """RLlib's replay of episodes, with the methods of `rl.algorithms.bypass.replay.Replay`.

    Args:
        config: a `DQNConfig`.
    """

    def __init__(self, config: Any) -> None:
        self._buffer = PrioritizedEpisodeReplayBuffer(capacity=config.replay_capacity, alpha=config.priority_alpha)
        self._beta, self._alpha = config.priority_beta, config.priority_alpha
        env = make_one(config)
        self._logged, self._gamma = env.logged, env.discount if config.gamma is None else config.gamma

    def __len__(self) -> int:
        return int(self._buffer.get_num_timesteps())

    def add(self, episodes: Sequence[SingleAgentEpisode]) -> None:
        """Append episodes, or parts of some that go on."""
        self._buffer.add(list(episodes))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[None, FloatArray, Columns]:
        """Draw n transitions with replacement; returns no places, weights [n], and the columns of `to_columns`."""
        self._buffer.rng = rng
        episodes = self._buffer.sample(
            num_items=n,
            n_step=1,
            beta=self._beta,
            gamma=self._gamma,
            include_infos=True,
            include_extra_model_outputs=True,
        )
        weights = np.array([episode.get_extra_model_outputs("weights", 0) for episode in episodes])
        return None, weights, to_columns(to_transitions(episodes, self._logged, self._gamma))

    def set_priorities(self, _: None, errors: FloatArray) -> None:
        """Set the priorities of the rows drawn last by their TD errors [n]; without alpha nothing."""
        if self._alpha:
            self._buffer.update_priorities(np.abs(errors) + 1e-6)

    def get_state(self) -> dict[str, Any]:
        """Return all that it holds."""
        state: dict[str, Any] = self._buffer.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_state` returned."""
        self._buffer.set_state(state)


def to_transitions(episodes: Sequence[SingleAgentEpisode], logged: Sequence[str], gamma: float) -> Transitions:
    """Return every step of RLlib's episodes as a transition of one step.

    Args:
        episodes: as `PlainEnvRunner` samples them.
        logged: the environment's `logged`.
        gamma: discount of the next state.
    """
    steps = [(episode, t) for episode in episodes for t in range(len(episode))]
    seen = [episode.get_observations(t) for episode, t in steps]
    after = [episode.get_observations(t + 1) for episode, t in steps]
    infos = [episode.get_infos(t + 1) for episode, t in steps]
    ended = np.array([episode.is_terminated and t + 1 == len(episode) for episode, t in steps])
    return Transitions(
        {name: np.stack([row[name] for row in seen]) for name in seen[0]},
        np.stack([np.atleast_1d(episode.get_actions(t)) for episode, t in steps]).astype(np.int64),
        np.stack([episode.get_extra_model_outputs(PROPENSITIES, t) for episode, t in steps]),
        np.array([episode.get_rewards(t) for episode, t in steps], dtype=np.float64),
        gamma * ~ended,
        {name: np.stack([row[name] for row in after]) for name in after[0]},
        {name: np.stack([info[name] for info in infos]) for name in logged},
        has_future=gamma > 0,
    )
