"""What a checkpoint of `DQN` carries on: replay, counters, schedules, optimiser, and the draws that follow."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rl.algorithms.dqn.config import DQNHyperparameters
from rl.training.kinds.dqn import DQNExperiment

EXPERIMENT = DQNExperiment(
    env_steps=2_000,
    envs_per_runner=8,
    dqn=DQNHyperparameters(
        network={"width": 8, "item_dropout": 0.2},
        train_batch_size_per_learner=16,
        learning_starts=40,
        priority_alpha=0.6,
        n_step=2,
        lr_final_share=0.1,
        lr_decay_share=1.0,
        replay_capacity=500,
    ),
)


@pytest.fixture(scope="module")
def pair(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """An algorithm after two iterations, and another one made of its checkpoint."""
    from rl.algorithms.dqn.algorithm import DQN

    algorithm = EXPERIMENT.algorithm().build_algo()
    algorithm.train()
    algorithm.train()
    path = tmp_path_factory.mktemp("checkpoint") / "saved"
    algorithm.save_to_path(str(path))
    restored = DQN.from_checkpoint(str(path))
    yield algorithm, restored
    algorithm.stop()
    restored.stop()


def test_the_replay_and_the_counters_are_carried_on(pair: tuple[Any, Any]) -> None:
    algorithm, restored = pair
    old, new = algorithm.replay.get_state(), restored.replay.get_state()
    assert len(restored.replay) == len(algorithm.replay) > 300
    for name, column in old["columns"].items():
        np.testing.assert_array_equal(new["columns"][name], column)
    np.testing.assert_array_equal(new["priorities"], old["priorities"])
    assert restored.env_steps == algorithm.env_steps == 320
    assert restored._due == algorithm._due
    assert restored.config.epsilon_at(restored.env_steps) == pytest.approx(1 - 0.95 * 320 / 1_000)


def test_the_weights_their_average_and_the_optimiser_are_carried_on(pair: tuple[Any, Any]) -> None:
    learners = [algorithm.learner_group._learner for algorithm in pair]
    states = [learner.q_module.state_dict() for learner in learners]
    assert any(name.startswith("_target") for name in states[0])
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert learners[0]._updates == learners[1]._updates > 0
    optimisers = [learner.get_optimizer("default_policy").state_dict() for learner in learners]
    assert optimisers[1]["param_groups"][0]["lr"] == optimisers[0]["param_groups"][0]["lr"] < 1e-3
    for number, moments in optimisers[0]["state"].items():
        np.testing.assert_array_equal(optimisers[1]["state"][number]["exp_avg"], moments["exp_avg"])


def test_the_same_is_drawn_next(pair: tuple[Any, Any]) -> None:
    (at, weights, _), (same, alike, _) = (algorithm.replay.sample(20, algorithm._rng) for algorithm in pair)
    np.testing.assert_array_equal(at, same)
    np.testing.assert_array_equal(weights, alike)


def test_training_goes_on_where_it_was(pair: tuple[Any, Any]) -> None:
    _, restored = pair
    restored.train()
    assert restored.env_steps == 480
    epsilon = float(restored.learner_group._learner.q_module.epsilon)  # set by the last update, within 16 steps
    assert 1 - 0.95 * 480 / 1_000 <= epsilon + 1e-6 <= 1 - 0.95 * 464 / 1_000 + 2e-6
