"""Contextual bandits as an RLlib algorithm, which RLlib itself has not had since 2024.

    config = (
        BanditConfig()
        .environment("raycommend/Wheel-v0", env_config={"delta": 0.95})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=20)
        .training(policy=LinearThompsonConfig(models="per_item"))
    )
    algorithm = config.build_algo()
    algorithm.train()

Statistics add, so it does not matter how many runners saw an observation first.
"""

from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm
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

from rl.algorithms.bandit.config import ENV_STEPS_PER_REPORT, BanditHyperparameters
from rl.algorithms.bandit.learner import BanditLearner, as_batch
from rl.algorithms.bandit.module import POLICY, BanditModule
from rl.algorithms.batch import Transitions
from rl.algorithms.bypass.rollout import BatchedEnvRunner
from rl.algorithms.configuration import HyperparameterConfig
from rl.algorithms.plain import PlainEnvRunner, to_transitions
from rl.algorithms.sampling import make_one, validate_sampling
from rl.policy.queries import Impressions, Query, Slates

SLOT_REWARDS = "rewards"
"""Name of the logged information [B, K] that has the reward of every slot of a slate."""


class BanditConfig(HyperparameterConfig):
    """Configures `Bandit`. The environment is named, or given, as for `rl.simulators.registry.make`.

    The policy is an object of `rl.policies` or the dictionary that describes one. Ray Tune may search for it:
    `tune.grid_search([...])` of policies, or in a dictionary that describes one.
    """

    hyperparameters_class = BanditHyperparameters

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        super().__init__(algo_class=algo_class or Bandit)
        self.gamma = None  # the reward of a decision is all that a bandit asks for
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 20
        self.rollout_fragment_length = 1  # every step is learned from before the next
        self.min_time_s_per_iteration = None
        self.min_sample_timesteps_per_iteration = ENV_STEPS_PER_REPORT

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Return the module that holds the policy."""
        return RLModuleSpec(module_class=BanditModule, model_config={POLICY: self.policy.model_dump()})

    def get_default_learner_class(self) -> type[BanditLearner]:
        """Return the learner that adds statistics."""
        return BanditLearner

    def validate(self) -> None:
        """Check what RLlib checks, the environment and the policy, and that there is one learner.

        Raises:
            ValueError: there is no such environment or policy, or more than one learner was asked for. Adding up is not
                what takes time here: one learner adds the observations of all runners.
        """
        self.env_runner_cls = PlainEnvRunner if self.plain else BatchedEnvRunner
        super().validate()
        validate_sampling(self)
        if self.num_learners > 1:
            self._value_error(f"a bandit has one learner, got num_learners={self.num_learners}; use more env runners")


class Bandit(Algorithm):
    """Samples from all runners, adds what they observed to the policy's statistics, and gives everyone the result."""

    @classmethod
    def get_default_config(cls) -> BanditConfig:
        """Return the defaults."""
        return BanditConfig()

    def training_step(self) -> None:
        """Sample a fragment from every runner and learn from all of them at once."""
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            sampled = self.env_runner_group.foreach_env_runner(
                lambda runner: (runner.worker_index, runner.sample(), runner.get_metrics()),
                local_env_runner=self.env_runner_group.num_remote_workers() <= 0,
            )
        if not sampled:  # every runner has failed; RLlib starts new ones before the next step
            return
        sampled.sort(key=lambda of_runner: of_runner[0])  # sums of floats are the same only in the same order
        self.metrics.aggregate([metrics for _, _, metrics in sampled], key=ENV_RUNNER_RESULTS)
        parts = [self._transitions(part) for _, part, _ in sampled]
        batch = as_batch(Impressions.concatenate([to_impressions(part) for part in parts]), sum(map(len, parts)))
        steps = int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))
        if self.env_runner is not None:  # checkpoints and new runners take its state: see BatchedEnvRunner._reset
            self.env_runner.num_env_steps_sampled_lifetime = steps
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(batch=batch, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps})
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)

    def _transitions(self, sampled: Any) -> Transitions:
        """Return what a runner has sampled as columns; with `plain` RLlib's episodes."""
        if not self.config.plain:
            transitions: Transitions = sampled
            return transitions
        return to_transitions(sampled, make_one(self.config).logged, 0.0)


def to_impressions(transitions: Transitions) -> Impressions:
    """Return what was shown and what it earned: every slot's reward where it was logged, else that of the action."""
    query = Query.of(transitions.observation)
    slates = Slates(transitions.actions, transitions.propensities, np.zeros(transitions.actions.shape))
    slots = transitions.actions.shape[1]
    if slots > 1 and SLOT_REWARDS not in transitions.logged:
        raise ValueError(
            f"a bandit needs the reward of each of {slots} slots: the environment logs no {SLOT_REWARDS!r}"
        )
    rewards = transitions.logged[SLOT_REWARDS] if slots > 1 else transitions.rewards[:, None]
    return Impressions.of_slates(query, slates, rewards)
