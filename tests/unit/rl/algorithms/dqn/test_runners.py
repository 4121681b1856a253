"""The DQN with runners as Ray actors: they are many, and the configuration is checked."""

from typing import Any

import numpy as np
import pytest
import torch

from rl.algorithms.dqn.algorithm import DQN
from rl.algorithms.dqn.module import inputs
from rl.algorithms.slate_q.algorithm import SlateQConfig
from rl.policies.transformer.packing import share
from tests.support.packages import needs_package
from tests.support.small_dqn import small_dqn


def weights(algorithm: DQN) -> list[np.ndarray]:
    return [parameter.detach().numpy() for parameter in algorithm.learner_group._learner.q_module.net.parameters()]


@pytest.mark.slow
def test_two_runners_sample_in_parallel_with_draws_of_their_own(ray_local: None) -> None:
    algorithm: DQN = small_dqn(runners=2).build_algo()
    algorithm.train()
    assert algorithm.env_steps == 2 * 4 * 5
    rows = algorithm.replay.get_state()["columns"]["actions"][:, 0].reshape(-1, 2, 4)
    assert (rows[:, 0] != rows[:, 1]).any()
    algorithm.stop()


@pytest.mark.slow
def test_runners_act_with_the_weights_and_the_epsilon_of_the_learner(ray_local: None) -> None:
    algorithm: DQN = small_dqn(runners=1).build_algo()
    for _ in range(10):
        algorithm.train()
    # An update, every 16 steps, sets it; it reaches the runner at most two rounds of 4 steps later.
    of_runner = algorithm.env_runner_group.foreach_env_runner(
        lambda runner: float(runner.module.epsilon), local_env_runner=False
    )[0]
    wanted = algorithm.config.epsilon_at(algorithm.env_steps)
    assert wanted < 0.9
    assert of_runner == pytest.approx(wanted, abs=(16 + 2 * 4) * 0.95 / 1_000)
    algorithm.stop()


@pytest.mark.slow
def test_same_seed_same_weights(ray_local: None) -> None:
    runs = []
    for seed in (3, 3, 4):
        algorithm: DQN = small_dqn().debugging(seed=seed).build_algo()
        for _ in range(5):
            algorithm.train()
        runs.append(weights(algorithm))
        algorithm.stop()
    one, again, other = runs
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_the_learner_may_have_a_process_of_its_own(ray_local: None) -> None:
    algorithm: DQN = small_dqn().learners(num_learners=1, num_cpus_per_learner=0.1).build_algo()
    for _ in range(5):
        result = algorithm.train()
    assert result["learners"]["default_policy"]["loss"] > 0
    algorithm.stop()


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"loss": "cubic"}, "loss: Input should be 'mse' or 'huber', got 'cubic'"),
        ({"n_step": 0}, "n_step: Input should be greater than or equal to 1, got 0"),
        ({"env_steps_per_update": -1}, "env_steps_per_update: Input should be greater than 0, got -1"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_dqn(**training).validate()


@pytest.mark.slow
@needs_package("g++")
def test_a_compiled_network_has_the_same_values_and_gradients(ray_local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    pair: list[DQN] = [small_dqn(compile_network=compiled).build_algo() for compiled in (True, False)]
    compiled, plain = pair
    for _ in range(2):
        assert compiled.train()["env_runners"]["num_env_steps_sampled_lifetime"] > 0  # it updates, too
        plain.train()
    columns = plain.replay.sample(16, np.random.default_rng(0))[2]
    batch = {name: torch.as_tensor(column) for name, column in columns.items()}
    modules = [algorithm.learner_group._learner.q_module for algorithm in pair]
    modules[0].load_state_dict(modules[1].state_dict())
    values, gradients = [], []
    for module in modules:
        module.net.zero_grad()
        q = module.q_values(module.net, batch)
        q.square().sum().backward()
        values.append(q.detach().numpy())
        gradients.append([parameter.grad.numpy().copy() for parameter in module.net.parameters()])
    np.testing.assert_allclose(values[0], values[1], rtol=1e-4, atol=1e-5)
    for one, two in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-3)
    assert max(float(np.abs(gradient).max()) for gradient in gradients[0]) > 1
    for algorithm in pair:
        algorithm.stop()


@pytest.mark.heavy
@pytest.mark.parametrize("fill", ["varying", "full"])
def test_each_network_values_by_its_own_weights(fill: str) -> None:
    algorithm: DQN = small_dqn().build_algo()
    for _ in range(10):
        algorithm.train()
    columns = algorithm.replay.sample(16, np.random.default_rng(0))[2]
    obs = {name: torch.as_tensor(columns[name]) for name in ("items", "mask", "history")}
    if fill == "full":
        obs["history"] = obs["history"][:, -1:]
    assert (share(obs["history"]) is None) == (fill == "full")
    module = algorithm.learner_group._learner.q_module
    values = []
    for network in (module.net, module._target):
        got = module.q_values(network, obs)
        torch.testing.assert_close(got, network(*inputs(obs)))
        values.append(got)
    assert (values[0] - values[1]).abs().max() > 1e-3
    torch.testing.assert_close(module.forward_target({"obs": obs})["qf_preds"], values[1])
    algorithm.stop()


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler, got no 'no-such-compiler'"):
        small_dqn(compile_network=True).validate()


def test_slates_are_not_compiled() -> None:
    with pytest.raises(ValueError, match="compile_network is not for slates"):
        SlateQConfig().environment("raycommend/InterestEvolution-v0").training(compile_network=True).validate()


def test_schedules_by_hand() -> None:
    made = small_dqn(epsilon_share=0.5, epsilon_final=0.1, lr=2.0, lr_final_share=0.25, lr_decay_share=0.5)
    assert [made.epsilon_at(steps) for steps in (0, 500, 1_000, 5_000)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert [made.lr_at(steps) for steps in (0, 1_000, 1_500, 1_900, 9_000)] == pytest.approx([2.0, 2.0, 1.0, 0.5, 0.5])
