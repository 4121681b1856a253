"""The batched environment runner: a policy acts in B environments at once and the result is columns.

It calls the simulator and the policy once for all B environments and keeps arrays. It acts by
`rl.policy.interface.Policy.decide`, so that the probability it logs is the one that the action was drawn with.
"""

from collections import deque
from dataclasses import dataclass, fields
from typing import Any, Protocol, overload

import numpy as np
import torch
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    SAMPLE_TIMER,
)

from rl.algorithms.batch import Transitions
from rl.algorithms.sampling import Played, environment_maker
from rl.evaluation.returns import play
from rl.experience.checks import Columns
from rl.policies.greedy import greedy
from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.interface import Policy
from rl.policy.queries import Query
from rl.simulators.batched import BatchedEnv, Observation
from rl.simulators.lookup import batch, display_name


class Acting(Protocol):
    """An RLModule that can say by which policy it acts."""

    def acting_policy(self) -> Policy:
        """Return the policy over the module's current weights; it is used until they change."""
        ...


@dataclass(frozen=True)
class _Step:
    observation: Observation
    actions: IntArray
    propensities: FloatArray
    rewards: FloatArray
    terminated: BoolArray
    ended: BoolArray
    after: Observation
    logged: Columns


class BatchedEnvRunner(SingleAgentEnvRunner):
    """Steps the environments that `config.env` names (see `environment_maker`) and returns `Transitions`.

    From the configuration it reads `num_envs_per_env_runner` (B), `rollout_fragment_length` (steps of each environment
    a call), `seed`, `explore`, and, where they exist, `n_step` and `gamma` (None: the environment's own discount).
    """

    env: BatchedEnv
    module: Acting

    def make_env(self) -> None:
        """Make the B environments; `_reset` seeds them."""
        self.env = self._make(self.config.num_envs_per_env_runner)
        self.num_envs = self.env.num_envs
        gamma = self.config.gamma
        self._gamma = self.env.discount if gamma is None else float(gamma)
        self._n_step = int(getattr(self.config, "n_step", 1))
        self._ended = 0  # episodes since the last call
        self._evaluations = 0
        self._needs_initial_reset = True

    def _make(self, rows: int) -> BatchedEnv:
        wanted = self.config.env
        return batch(environment_maker(wanted), rows, dict(self.config.env_config), display_name(wanted))

    @overload
    def sample(self, *, num_timesteps: int | None = None, explore: bool | None = None) -> Transitions: ...

    @overload
    def sample(self, *, num_episodes: int, explore: bool | None = None) -> list[Played]: ...

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> Any:
        """Step all environments `rollout_fragment_length` times, or until num_timesteps steps are taken together.

        With n-step returns a transition is complete n - 1 steps after it began, maybe in the next call. Where whole
        episodes are asked for, as RLlib's evaluation does, they are played apart from those that are trained on; of
        them, and of whatever a runner of an evaluation samples, only the number of steps is returned.

        Args:
            num_timesteps: see above.
            num_episodes: how many at least.
            explore: whether the policy explores; None: as the configuration says.
            random_actions: not to be had: policies explore by themselves.
            force_reset: begin new episodes.

        Raises:
            ValueError: random actions were asked for.
        """
        if random_actions:
            raise ValueError("the batched runner samples by the policy's own exploration only, not by random actions")
        policy = self._policy(self.config.explore if explore is None else explore)
        if num_episodes is not None:
            return self._play(policy, num_episodes)
        if self._needs_initial_reset or force_reset:
            self._reset()
        steps = self.config.rollout_fragment_length
        if num_timesteps is not None:
            steps = max(1, -(-int(num_timesteps) // self.num_envs))
        parts = []
        with self.metrics.log_time(SAMPLE_TIMER), torch.inference_mode():
            for _ in range(steps):
                self._window.append(self._step(policy))
                if len(self._window) == self._n_step:
                    parts.append(transitions(list(self._window), self._gamma))
        self._increase_sampled_metrics(steps * self.num_envs, self._ended)
        self._ended = 0
        if self.config.in_evaluation:
            return [Played(steps * self.num_envs)]
        return Transitions.concatenate(parts) if parts else self._nothing()

    def _policy(self, explore: bool) -> Policy:
        policy = self.module.acting_policy()
        return policy if explore else greedy(policy)

    def _play(self, policy: Policy, episodes: int) -> list[Played]:
        """Play whole episodes in environments of their own, each time others; as many in every row, see `play`."""
        self._evaluations += 1
        seeds = np.random.SeedSequence([*self._numbers(), self._evaluations]).spawn(2)
        of_row = -(-episodes // self.num_envs)
        env = self._make(-(-episodes // of_row))
        with self.metrics.log_time(SAMPLE_TIMER), torch.inference_mode():
            played = play(policy, env, episodes, int(seeds[0].generate_state(1)[0]), np.random.default_rng(seeds[1]))
        env.close()
        self._log(played.of_episodes, played.lengths)
        steps = int(played.lengths.sum())
        self._increase_sampled_metrics(steps, len(played.lengths))
        return [Played(steps)]

    def _numbers(self) -> list[int]:
        """Return what draws are seeded by: the configuration's seed, this runner's number, how far the training is."""
        return [self.config.seed or 0, self.worker_index or 0, int(self.num_env_steps_sampled_lifetime)]

    def _reset(self) -> None:
        """Seed the draws, and begin new episodes.

        By `_numbers`: so a runner that takes the place of a failed one, or goes on from a checkpoint, does not see
        again what was learned from already.
        """
        of_env, of_policy = np.random.SeedSequence(self._numbers()).spawn(2)
        self._rng = np.random.default_rng(of_policy)
        self._observation, _ = self.env.reset(seed=int(of_env.generate_state(1)[0]))
        self._window: deque[_Step] = deque(maxlen=self._n_step)
        self._returns, self._lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=np.int64)
        self._needs_initial_reset = False

    def _step(self, policy: Policy) -> _Step:
        slate = self.env.single_action_space.shape  # () for one item
        slates = policy.decide(Query.of(self._observation), slate[0] if slate else 1, self._rng)
        actions = slates.positions if slate else slates.positions[:, 0]
        after, rewards, terminated, truncated, info = self.env.step(actions)
        ended = terminated | truncated
        self._count(rewards, ended)
        last = info["final_obs"] if truncated.any() else None
        step = _Step(
            self._observation,
            slates.positions,
            slates.propensities,
            rewards,
            terminated,
            ended,
            after if last is None else {k: _where(truncated, last[k], after[k]) for k in after},
            {name: info[name] for name in self.env.logged},
        )
        self._observation = after
        return step

    def _count(self, rewards: FloatArray, ended: BoolArray) -> None:
        """Keep the books of the episodes, logged once for all that have ended in this step."""
        self._returns += rewards
        self._lengths += 1
        if ended.any():
            self._log(self._returns[ended], self._lengths[ended])
            self._ended += int(ended.sum())
            self._returns[ended], self._lengths[ended] = 0.0, 0

    def _log(self, returns: FloatArray, lengths: IntArray) -> None:
        window = self.config.metrics_num_episodes_for_smoothing
        self.metrics.log_value(EPISODE_RETURN_MEAN, returns.mean(), window=window)
        self.metrics.log_value(EPISODE_RETURN_MIN, returns.min(), reduce="min", window=window)
        self.metrics.log_value(EPISODE_RETURN_MAX, returns.max(), reduce="max", window=window)
        self.metrics.log_value(EPISODE_LEN_MEAN, lengths.mean(), window=window)

    def _nothing(self) -> Transitions:
        """Return no transitions, with the columns that some would have."""
        whole = transitions(list(self._window)[:1], self._gamma)
        columns = [f.name for f in fields(whole) if f.name != "has_future"]
        return Transitions(**{name: _none(getattr(whole, name)) for name in columns}, has_future=whole.has_future)


def transitions(window: list[_Step], gamma: float) -> Transitions:
    """Return the n-step transitions [B] that begin with the window's first step; none goes past its episode's end.

    Source: Sutton and Barto, "Reinforcement Learning" (2018), eq. 7.1.
    """
    first = window[0]
    rewards, discounts = np.zeros(len(first.rewards)), np.ones(len(first.rewards))
    going, last = np.ones(len(first.rewards), dtype=np.bool_), np.zeros(len(first.rewards), dtype=np.int64)
    for number, step in enumerate(window):
        if not going.any():  # long windows outlast the episodes that they begin in
            break
        rewards = rewards + discounts * going * step.rewards
        discounts = np.where(going, discounts * gamma * ~step.terminated, discounts)
        last[going] = number
        going = going & ~step.ended
    after = window[last.max()].after
    for number in np.unique(last)[:-1]:
        after = {name: _where(last == number, window[number].after[name], after[name]) for name in after}
    return Transitions(
        first.observation, first.actions, first.propensities, rewards, discounts, after, first.logged, gamma > 0
    )


def _where(rows: BoolArray, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    """Choose whole rows of one array or the other."""
    return np.where(rows.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


def _none(column: Any) -> Any:
    return {name: array[:0] for name, array in column.items()} if isinstance(column, dict) else column[:0]
