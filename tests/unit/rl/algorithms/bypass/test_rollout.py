"""The batched runner: what it logs is what happened."""

from typing import Any

import numpy as np
import pytest
import torch

from rl.algorithms.batch import Transitions
from rl.algorithms.bypass.rollout import (
    BatchedEnvRunner,
    _Step,
    transitions,
)
from rl.algorithms.dqn.algorithm import DQNConfig
from rl.policies.transformer.network import QNetwork
from rl.policies.transformer.policy import tensors
from rl.policy.queries import ITEM, Query
from tests.support.packages import needs_package

B, A = 6, 10


def runner(seed: int = 0, env: str = "raycommend/Shop-v0", **training: Any) -> BatchedEnvRunner:
    config = (
        DQNConfig()
        .environment(env)
        .env_runners(num_envs_per_env_runner=B, rollout_fragment_length=30)
        .training(**training)
        .debugging(seed=seed)
    )
    made = BatchedEnvRunner(config=config)
    made.module.epsilon.fill_(0.3)  # type: ignore[attr-defined]
    return made


def step(t: int, rewards: list[float], terminated: list[int], truncated: list[int]) -> _Step:
    """Step t of three environments; an observation says which step it is of."""
    return _Step(
        {"x": np.array([t] * 3)},
        np.array([[t]] * 3),
        np.full((3, 1), 0.5),
        np.array(rewards),
        np.array(terminated, dtype=np.bool_),
        np.array(terminated, dtype=np.bool_) | np.array(truncated, dtype=np.bool_),
        {"x": np.array([t + 1] * 3)},
        {},
    )


def test_n_step_transitions_by_hand() -> None:
    """γ = 1/2: the first goes on, the second ends at its second step, the third is cut off there."""
    window = [
        step(0, [1.0, 1.0, 1.0], [0, 0, 0], [0, 0, 0]),
        step(1, [4.0, 4.0, 4.0], [0, 1, 0], [0, 0, 1]),
        step(2, [8.0, 8.0, 8.0], [0, 0, 0], [0, 0, 0]),
    ]
    found = transitions(window, gamma=0.5)
    np.testing.assert_array_equal(found.rewards, [1 + 2 + 2, 1 + 2, 1 + 2])
    np.testing.assert_array_equal(found.discounts, [1 / 8, 0, 1 / 4])
    np.testing.assert_array_equal(found.next_observation["x"][[0, 2]], [3, 2])
    np.testing.assert_array_equal(found.observation["x"], 0)
    np.testing.assert_array_equal(found.actions, 0)


def test_steps_after_all_episodes_have_ended_are_not_looked_at() -> None:
    nan = [float("nan")] * 3
    ended = [step(0, [1.0, 2.0, 3.0], [0, 1, 0], [0, 0, 0]), step(1, [4.0, 4.0, 4.0], [1, 0, 0], [0, 0, 1])]
    found = transitions([*ended, step(2, nan, [0, 0, 0], [0, 0, 0])], gamma=0.5)
    np.testing.assert_array_equal(found.rewards, [1 + 2, 2, 3 + 2])
    np.testing.assert_array_equal(found.discounts, [0, 0, 1 / 4])
    np.testing.assert_array_equal(found.next_observation["x"][2], 2)


def test_a_step_that_ends_has_no_future_and_one_that_is_cut_off_has() -> None:
    found = transitions([step(0, [1.0, 2.0, 3.0], [0, 1, 0], [0, 0, 1])], gamma=0.9)
    np.testing.assert_array_equal(found.rewards, [1, 2, 3])
    np.testing.assert_array_equal(found.discounts, [0.9, 0, 0.9])


@pytest.mark.heavy
@pytest.mark.parametrize("n_step", [1, 3])
def test_the_columns_follow_each_other(n_step: int) -> None:
    """The next observation of a shop shows what was done, n steps later; nothing goes past the end of an episode."""
    sampler = runner(n_step=n_step, gamma=0.9)
    sampled = Transitions.concatenate([sampler.sample(), sampler.sample()])
    assert len(sampled) == B * (60 - n_step + 1)
    shown = sampled.next_observation["history"][:, -n_step, ITEM]
    going = sampled.discounts > 0
    np.testing.assert_array_equal(shown[going], sampled.actions[going, 0] + 1)
    np.testing.assert_allclose(sampled.discounts[going], 0.9**n_step)
    of_step = [int((row[:, ITEM] > 0).sum()) for row in sampled.observation["history"]]
    np.testing.assert_array_equal(going, np.array(of_step) < 20 - n_step)


@pytest.mark.heavy
def test_propensities_are_those_of_the_policy() -> None:
    sampler = runner()
    policy = sampler.module.acting_policy()
    sampled = sampler.sample()
    p = policy.distribution(Query.of(sampled.observation), np.random.default_rng(0))
    np.testing.assert_allclose(np.take_along_axis(p, sampled.actions, axis=1), sampled.propensities)
    assert set(np.round(sampled.propensities[:, 0], 6)) == {0.03, 0.73}  # .3 / 10, and .7 + .3 / 10 for the best


@pytest.mark.slow
@needs_package("g++")
def test_a_compiled_network_acts_as_the_network_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    network = {"width": 8}
    compiled, plain = runner(network=network, compile_network=True), runner(network=network)
    for _ in range(2):
        one, two = compiled.sample(), plain.sample()  # from the first step on, where histories are all padding
        np.testing.assert_array_equal(one.actions, two.actions)
        np.testing.assert_allclose(one.propensities, two.propensities, atol=1e-12)
        query = Query.of(plain._observation)
        values = compiled.module.acting_policy().expected(query)
        np.testing.assert_allclose(values, plain.module.acting_policy().expected(query), atol=1e-5)
        assert np.ptp(values) > 0.01
        for sampler in (compiled, plain):  # other weights: what was compiled goes on by them
            with torch.no_grad():
                for number, weights in enumerate(sampler.module.net.parameters()):  # type: ignore[attr-defined]
                    weights.add_(0.3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(number)))


@pytest.mark.heavy
def test_a_compiled_network_is_called_with_histories_of_one_length() -> None:
    sampler = runner(network={"width": 8})
    called: list[int] = []

    def compiled(network: QNetwork, *arguments: Any) -> torch.Tensor:
        called.append(arguments[2].shape[1])
        q: torch.Tensor = network(*arguments)
        return q

    sampler.module._compiled = compiled  # type: ignore[attr-defined]
    sampler.sample(num_timesteps=5 * B)
    assert called == [20] * 5


@pytest.mark.heavy
def test_padding_of_all_rows_is_left_out_where_nothing_is_compiled() -> None:
    sampler = runner()
    sampler.sample(num_timesteps=5 * B)
    query = Query.of(sampler._observation)
    assert query.history is not None
    cut, whole = tensors(query)[2], tensors(query, whole=True)[2]
    assert (cut.shape, whole.shape) == ((B, 5, 3), (B, 20, 3))
    np.testing.assert_array_equal(cut, query.history[:, -5:])
    np.testing.assert_array_equal(whole, query.history)


@pytest.mark.heavy
def test_same_seed_same_columns() -> None:
    one, again, other = (runner(seed).sample() for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.actions, again.actions)
    np.testing.assert_array_equal(one.rewards, again.rewards)
    assert (one.actions != other.actions).any()


@pytest.mark.heavy
def test_episodes_are_counted_and_their_returns_averaged() -> None:
    sampler = runner()
    sampled = sampler.sample(num_timesteps=40 * B)
    metrics = sampler.get_metrics()
    assert metrics["num_episodes"].peek() == 2 * B
    assert metrics["num_env_steps_sampled"].peek() == 40 * B
    assert metrics["episode_len_mean"].peek() == 20
    assert metrics["episode_return_mean"].peek() == pytest.approx(sampled.rewards.sum() / (2 * B))


@pytest.mark.heavy
def test_slates_are_logged_slot_by_slot() -> None:
    from rl.algorithms.slate_q.algorithm import SlateQConfig

    config = SlateQConfig().environment("raycommend/InterestEvolution-v0").env_runners(num_envs_per_env_runner=B)
    sampled = BatchedEnvRunner(config=config).sample(num_timesteps=20 * B)
    assert sampled.actions.shape == sampled.propensities.shape == (20 * B, 3)
    assert sampled.logged["chosen"].shape == (20 * B,)


@pytest.mark.heavy
def test_no_gradient_is_kept() -> None:
    sampler = runner()
    sampler.sample()
    assert all(parameter.grad is None for parameter in sampler.module.parameters())  # type: ignore[attr-defined]
    assert torch.is_grad_enabled()


def test_what_it_cannot_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="samples by the policy's own exploration only, not by random actions"):
        runner().sample(num_episodes=1, random_actions=True)  # type: ignore[call-overload]
