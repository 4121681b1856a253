"""What goes past RLlib can be switched off: its own runner, replay and update train the same algorithms."""

from typing import Any

import numpy as np
import pytest
import torch

from rl.algorithms.batch import to_columns, to_multi_agent
from rl.algorithms.bypass.rollout import BatchedEnvRunner
from rl.algorithms.dqn.algorithm import DQN, DQNConfig
from rl.algorithms.learners import learner_module
from rl.algorithms.plain import PlainEnvRunner, PlainReplay, to_transitions
from tests.support.own import Corridor

pytestmark = pytest.mark.usefixtures("ray_local")


def config(plain: bool, **training: Any) -> DQNConfig:
    made: DQNConfig = (
        DQNConfig()
        .environment(Corridor)
        .env_runners(num_envs_per_env_runner=4)
        .training(
            plain=plain,
            **{"network": {"width": 8, "layers": 0}, "learning_starts": 8, "train_batch_size_per_learner": 16}
            | training,
        )
        .debugging(seed=0, log_level="ERROR")
    )
    return made


def test_the_settings_switch_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not DQNConfig().plain
    monkeypatch.setenv("RAYCOMMEND_PLAIN", "1")
    assert DQNConfig().plain
    assert not config(plain=False).plain


def test_the_runner_is_rllibs_or_ours() -> None:
    for plain, runner in ((True, PlainEnvRunner), (False, BatchedEnvRunner)):
        made = config(plain)
        made.validate()
        assert made.env_runner_cls is runner


def test_an_update_is_the_same_both_ways() -> None:
    """To rounding: RLlib's update over single parameters, and ours over all as one vector."""
    ours, plain = (config(plain, grad_clip=0.1, learning_starts=10_000).build_algo() for plain in (False, True))
    ours.train()
    modules = [learner_module(algorithm) for algorithm in (ours, plain)]
    modules[1].load_state_dict(modules[0].state_dict())
    for number in range(3):
        columns = ours.replay.sample(16, np.random.default_rng(number))[2] | {"weights": np.ones(16, np.float32)}
        results = []
        for algorithm in (ours, plain):
            torch.manual_seed(number)
            timesteps = {"num_env_steps_sampled_lifetime": 100}
            results += algorithm.learner_group.update(batch=to_multi_agent(columns), timesteps=timesteps)
        for name, value in results[0].items():
            np.testing.assert_allclose(results[1][name], value, rtol=1e-4, atol=1e-6)
    for name, value in modules[0].state_dict().items():
        torch.testing.assert_close(modules[1].state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_rllibs_episodes_are_the_same_transitions() -> None:
    """The corridor's steps cost .1, its end pays 1; where it ends nothing follows."""
    runner = PlainEnvRunner(config=config(plain=True, gamma=0.9))
    steps = to_transitions(runner.sample(num_timesteps=40), (), 0.9)
    assert len(steps) >= 40
    assert set(np.round(steps.rewards, 6)) <= {-0.1, 1.0}
    np.testing.assert_allclose(steps.discounts, np.where(steps.rewards == 1.0, 0.0, 0.9))
    assert ((steps.propensities > 0) & (steps.propensities <= 1)).all()
    taken = BatchedEnvRunner(config=config(plain=False, gamma=0.9)).sample(num_timesteps=40)
    ours, plain = to_columns(taken), to_columns(steps)
    assert {name: (c.dtype, c.shape[1:]) for name, c in plain.items()} == {
        name: (c.dtype, c.shape[1:]) for name, c in ours.items()
    }


def test_rllibs_replay_goes_through_a_checkpoint() -> None:
    algorithm: DQN = config(plain=True, priority_alpha=0.6).build_algo()
    for _ in range(2):
        algorithm.train()
    state, copy = algorithm.replay.get_state(), PlainReplay(algorithm.config)
    copy.set_state(state)
    assert len(copy) == len(algorithm.replay) > 0
    algorithm.stop()


def test_steps_are_not_summed_by_rllibs_replay() -> None:
    with pytest.raises(ValueError, match="n_step must be 1 with plain, got 3"):
        config(plain=True, n_step=3).validate()
