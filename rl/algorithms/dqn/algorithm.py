"""Deep Q learning on RLlib: runners, replay, and averaged targets."""

import os
from collections.abc import Collection
from shutil import which
from typing import Any, Self

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from rl.algorithms.batch import Transitions, to_columns, to_multi_agent
from rl.algorithms.bypass.replay import Replay
from rl.algorithms.bypass.rollout import BatchedEnvRunner
from rl.algorithms.bypass.share import share_module
from rl.algorithms.dqn.config import DQNHyperparameters
from rl.algorithms.dqn.q_learning import QLearningConfig
from rl.algorithms.plain import PlainEnvRunner, PlainReplay
from rl.algorithms.sampling import validate_sampling

REPLAY = "replay"


class DQNConfig(QLearningConfig):
    """Configuration of `DQN`: `hyperparameters`, and the training's length.

    >>> config = DQNConfig().environment("raycommend/Shop-v0").training(lr=1e-3, horizon=200_000)
    """

    hyperparameters_class = DQNHyperparameters

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        super().__init__(algo_class=algo_class or DQN)
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 64
        self.rollout_fragment_length = 1
        self.horizon = 100_000

    def training(self, *, horizon: int = NotProvided, **options: Any) -> Self:
        """Set what training does.

        Args:
            horizon: environment steps of the whole training, which the schedules are shares of.
            options: see `HyperparameterConfig.training`.
        """
        super().training(**options)
        if horizon is not NotProvided:
            self.horizon = horizon
        return self

    def length(self) -> int:
        """Return the environment steps of the whole training."""
        return int(self.horizon)

    def epsilon_at(self, steps: int) -> float:
        """Return the probability of a uniform draw after so many environment steps."""
        done = min(1.0, steps / max(1.0, self.epsilon_share * self.horizon))
        return float(self.epsilon_initial + done * (self.epsilon_final - self.epsilon_initial))

    def validate(self) -> None:
        """Check what RLlib does not know of.

        Raises:
            ValueError: a value that cannot be trained with, no such environment, or there is no compiler.
        """
        self.env_runner_cls = PlainEnvRunner if self.plain else BatchedEnvRunner
        super().validate()
        validate_sampling(self)
        compiler = os.environ.get("CXX", "g++")
        if self.compile_network and not which(compiler):
            raise ValueError(
                f"compile_network needs a C++ compiler, got no {compiler!r}: install it, or name one in CXX"
            )
        if self.num_learners > 1:
            raise ValueError(f"num_learners must be 0 or 1, got {self.num_learners}: gradients are not shared")
        if self.plain and self.n_step > 1:
            raise ValueError(
                f"n_step must be 1 with plain, got {self.n_step}: RLlib's replay draws no transition within n steps "
                "of an episode's end, and none at all where episodes are shorter"
            )
        if self.horizon < 1:
            raise ValueError(f"horizon must be positive, got {self.horizon}")

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """See `QLearningConfig`."""
        spec = super().get_default_rl_module_spec()
        if self.compile_network:
            spec.model_config["compile_network"] = True
        return spec


class DQN(Algorithm):
    """Q learning with a network that scores whatever candidates a request has.

    Source: Mnih et al., "Human-level control through deep reinforcement learning" (2015), with double estimation,
    n-step returns and prioritised replay as in Hessel et al., "Rainbow" (2018).
    """

    config: Any

    @classmethod
    def get_default_config(cls) -> DQNConfig:
        """Return the configuration to begin with."""
        return DQNConfig()

    def setup(self, config: Any) -> None:
        """Make runners, learner and replay."""
        super().setup(config)
        made = self.config
        self.replay: Any = (
            PlainReplay(made) if made.plain else Replay(made.replay_capacity, made.priority_alpha, made.priority_beta)
        )
        self._rng = np.random.default_rng([self.config.seed or 0, 1])
        self._due = 0.0  # updates that the steps taken so far call for and that have not been made
        self._shared = not self.config.plain and share_module(self)

    def training_step(self) -> None:
        """Sample a fragment and update in turn, until every episode was stepped `rounds_per_iteration` times."""
        results: list[dict[str, np.ndarray]] = []
        for _ in range(0, self.config.rounds_per_iteration, self.config.rollout_fragment_length):
            before = self.env_steps
            with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
                self._due += self._sample() / self.config.env_steps_per_update
            with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
                made = self._update()
            results += made
            if made and not self._shared:
                with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
                    self.env_runner_group.sync_weights(
                        from_worker_or_learner_group=self.learner_group, inference_only=True
                    )
            if before < self.config.horizon <= self.env_steps:
                break  # the schedules end here, and so does a training of this length
        for name in results[0] if results else ():
            value = float(np.mean([np.abs(result[name]).mean() for result in results]))
            self.metrics.log_value((LEARNER_RESULTS, DEFAULT_MODULE_ID, name), value, window=1)

    def _sample(self) -> int:
        """Let every runner step its environments, and keep what they saw; returns how many transitions that is.

        Raises:
            RuntimeError: no runner is alive; RLlib restarts them before the next iteration.
        """
        sampled = self.env_runner_group.foreach_env_runner(
            lambda runner: (runner.sample(), runner.get_metrics()),
            local_env_runner=not self.env_runner_group.num_remote_workers(),
        )
        if sampled:
            self.metrics.aggregate([metrics for _, metrics in sampled], key=ENV_RUNNER_RESULTS)
        if self.env_runner is not None:  # checkpoints and new runners take its state: see BatchedEnvRunner._reset
            self.env_runner.num_env_steps_sampled_lifetime = self.env_steps
        if not sampled:
            raise RuntimeError("no runner has sampled anything")
        if self.config.plain:
            episodes = [episode for part, _ in sampled for episode in part]
            self.replay.add(episodes)
            return sum(map(len, episodes))
        transitions = Transitions.concatenate([part for part, _ in sampled])  # none till n steps are taken
        self.replay.add(to_columns(transitions))
        return len(transitions)

    def _update(self) -> list[dict[str, np.ndarray]]:
        """Make the updates that are due."""
        results = []
        steps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.env_steps}
        if self.env_steps < self.config.learning_starts:
            self._due = 0.0
        while self._due >= 1:
            self._due -= 1
            at, weights, columns = self.replay.sample(self.config.train_batch_size_per_learner, self._rng)
            columns["weights"] = weights.astype(np.float32)
            result = self.learner_group.update(batch=to_multi_agent(columns), timesteps=steps)[0]
            self.replay.set_priorities(at, result.pop("td_errors"))
            results.append(result)
        return results

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Add the replay, which RLlib's own checkpoints leave out, the draws from it, and the updates that are due."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **options)
        if self._check_component(REPLAY, components, not_components):
            state[REPLAY] = {
                "rows": self.replay.get_state(),
                "rng": self._rng.bit_generator.state,
                "torch_rng": torch.get_rng_state(),  # of item dropout
                "due": self._due,
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """See `get_state`."""
        super().set_state(state)
        if kept := state.get(REPLAY):
            self.replay.set_state(kept["rows"])
            self._rng.bit_generator.state = kept["rng"]
            torch.set_rng_state(kept["torch_rng"])
            self._due = kept["due"]

    @property
    def env_steps(self) -> int:
        """Environment steps sampled so far, by all runners."""
        return int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))
