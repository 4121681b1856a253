"""A DQN that is small enough to be trained in a test."""

from typing import Any

from rl.algorithms.dqn.algorithm import DQNConfig


def small_dqn(runners: int = 0, **training: Any) -> DQNConfig:
    """Return one that plays the shop, four episodes at once in each runner."""
    made: DQNConfig = (
        DQNConfig()
        .environment("raycommend/Shop-v0")
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=4, num_cpus_per_env_runner=0.1)
        .training(
            **{
                "network": {"width": 8, "layers": 0},
                "train_batch_size_per_learner": 16,
                "learning_starts": 32,
                "rounds_per_iteration": 5,
                "horizon": 2_000,
            }
            | training
        )
        .debugging(seed=3, log_level="ERROR")
    )
    return made
