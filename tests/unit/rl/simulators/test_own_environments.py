"""Environments of one's own: found, made a batch, or refused with what is wrong with them."""

import functools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl.evaluation.returns import play
from rl.policies.baselines import Random
from rl.policy.queries import Query
from rl.simulators.batched import BatchedEnv
from rl.simulators.contract import EnvironmentContractError, check_spaces
from rl.simulators.registry import SIMULATORS, make
from rl.simulators.singles import Singles
from tests.support.own import Coins, Configured, Corridor, Masked


@pytest.mark.parametrize("wanted", ["tests.support.own:Corridor", Corridor, Configured, "tests.support.own:Configured"])
def test_a_single_environment_becomes_a_batch(wanted: Any) -> None:
    """Walking right for three steps: -.1, -.1 and 1, whatever the others do; place 3 of 0 to 3 is the last feature."""
    env = make(wanted, 2, length=3, limit=4)
    assert isinstance(env, Singles)
    assert (env.discount, env.one_step, env.logged) == (0.9, False, ())
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen)
    assert seen["features"].tolist() == [[[1, 0, 0, 0]]] * 2
    assert seen["items"].tolist() == [[1, 2]] * 2
    assert seen["mask"].tolist() == [[1, 1]] * 2
    for _ in range(2):  # the first walks right, the second to the left
        seen, rewards, terminated, truncated, _ = env.step(np.array([1, 0]))
        assert rewards.tolist() == [-0.1, -0.1]
        assert not (terminated | truncated).any()
    assert seen["features"][:, 0].tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    seen, rewards, terminated, truncated, info = env.step(np.array([1, 0]))
    assert rewards.tolist() == [1.0, -0.1]
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, False])
    assert info["final_obs"]["features"][0].tolist() == [[0, 0, 0, 1]]
    assert seen["features"][:, 0].tolist() == [[1, 0, 0, 0]] * 2  # the first begins anew
    _, _, terminated, truncated, info = env.step(np.array([1, 1]))
    assert (terminated.tolist(), truncated.tolist()) == ([False, False], [False, True])
    assert info["final_obs"]["features"][1].tolist() == [[0, 1, 0, 0]]


def test_what_an_environment_allows_is_what_may_be_chosen() -> None:
    """The only move that is allowed pays 1: whoever keeps to the mask earns 1 always."""
    env = make(Masked, 3)
    seen, _ = env.reset(seed=0)
    assert seen["features"].shape == (3, 1, 2)
    assert seen["mask"].sum(axis=1).tolist() == [1, 1, 1]
    assert play(Random(), env, 60, 0, np.random.default_rng(0)).of_episodes.tolist() == [1.0] * 60


@pytest.mark.parametrize("name", ["CartPole-v1", "gymnasium.envs.classic_control.cartpole:CartPoleEnv", "Taxi-v3"])
def test_gymnasiums_own_are_played(name: str) -> None:
    env = make(name, 3)
    seen, _ = env.reset(seed=[1, 2, 3])
    assert env.observation_space.contains(seen)
    assert len(np.unique(seen["features"], axis=0)) == 3
    assert all(np.array_equal(seen[key], env.reset(seed=[1, 2, 3])[0][key]) for key in seen)
    played = play(Random(), env, 6, 0, np.random.default_rng(0))
    assert len(played.lengths) == 6
    assert played.lengths.min() > 5


def test_returns_have_the_lengths_of_their_episodes() -> None:
    """A corridor of one place: to the right at once is 1 step, and each step to the left before it another."""
    played = play(Random(), make(Corridor, 5, length=1), 200, 0, np.random.default_rng(0))
    np.testing.assert_allclose(played.of_episodes, 1.0 - 0.1 * (played.lengths - 1), atol=1e-9)
    assert played.lengths.mean() == pytest.approx(2, abs=0.4)


@pytest.mark.parametrize("wanted", ["tests.support.own:Coins", Coins, functools.partial(Coins, pays=2.0)])
def test_a_batched_environment_is_taken_as_it_is(wanted: Any) -> None:
    env = make(wanted, 4)
    assert isinstance(env, Coins)
    env.reset(seed=0)
    assert env.step(np.array([0, 1, 1, 0]))[1].tolist() == [0, env.pays, env.pays, 0]


def test_options_reach_it_by_name() -> None:
    assert make("tests.support.own:Corridor", 1, length=5).single_observation_space["features"].shape == (1, 6)
    with pytest.raises(TypeError, match="colour"):
        make("tests.support.own:Corridor", 1, colour="red")
    with pytest.raises(TypeError, match="colour"):
        make("tests.support.own:Coins", 1, colour="red")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("tests.support.own:Torque", "environment tests.support.own:Torque: action: needs a Discrete space"),
        ("tests.support.own:Graph", "observation: needs a space that Gymnasium flattens to a Box, got Graph"),
        ("Pendulum-v1", "action: needs a Discrete space, whose actions become candidates, got Box"),
        (
            "tests.support.own:Nobody",
            "there is no simulator 'tests.support.own:Nobody'; there are raycommend/C.* as module:Class",
        ),
        ("tests.nothing:Corridor", "the module 'tests.nothing' cannot be imported: No module named 'tests.nothing'"),
        ("tests.support.own:np.pi", "must be a class or a function, got float"),
        ("builtins:dict", "environment builtins:dict: needs a gymnasium.Env, or a BatchedEnv that takes num_envs"),
        (
            "gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv",
            "needs a BatchedEnv from what takes num_envs, got a CartPoleVectorEnv",
        ),
        (lambda **options: None, "needs a gymnasium.Env, or a BatchedEnv that takes num_envs, got nothing"),
    ],
)
def test_what_cannot_be_played_is_refused(wanted: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(wanted, 2)


def test_what_goes_wrong_while_playing_is_told_with_the_episode() -> None:
    env = make("tests.support.own:Unreal", 2)
    env.reset(seed=0)
    with pytest.raises(EnvironmentContractError, match="episode 0: a reward must be finite, got nan"):
        env.step(np.array([0, 0]))
    with pytest.raises(EnvironmentContractError, match=r"observation: items needs the shape \(3, 2\), got \(2,\)"):
        make("tests.support.own:Misplaced", 3).reset(seed=0)


ITEMS, MASK = gym.spaces.Box(1, 5, (3,), np.int32), gym.spaces.MultiBinary(3)
TWO: gym.Space[Any] = gym.spaces.Discrete(2)


@pytest.mark.parametrize(
    ("fields", "action", "said"),
    [
        ({"items": ITEMS}, gym.spaces.Discrete(3), "needs a Dict of items"),
        (
            {"items": ITEMS, "mask": MASK, "colour": MASK},
            gym.spaces.Discrete(3),
            "has 'colour', which is none of items",
        ),
        ({"items": gym.spaces.Box(0, 1, (3,)), "mask": MASK}, gym.spaces.Discrete(3), "items: needs a Box"),
        ({"items": ITEMS, "mask": gym.spaces.MultiBinary(2)}, gym.spaces.Discrete(3), "mask: needs the shape"),
        (
            {"items": ITEMS, "mask": MASK, "features": gym.spaces.Box(0, 1, (3,))},
            gym.spaces.Discrete(3),
            "features: need",
        ),
        ({"items": ITEMS, "mask": MASK, "state": MASK}, gym.spaces.Discrete(3), "state: needs a Discrete"),
        ({"items": ITEMS, "mask": MASK, "history": ITEMS}, gym.spaces.Discrete(3), "history: needs a Box"),
        (
            {"items": ITEMS, "mask": MASK},
            TWO,
            r"action: .* Discrete\(3\), or a MultiDiscrete of 3s for slates, got Discr",
        ),
        ({"items": ITEMS, "mask": MASK}, gym.spaces.MultiDiscrete([3, 2]), "action: needs a position"),
    ],
)
def test_spaces_that_are_no_queries_are_refused(fields: dict[str, Any], action: gym.Space[Any], said: str) -> None:
    with pytest.raises(EnvironmentContractError, match=said):
        check_spaces(gym.spaces.Dict(fields), action)


@pytest.mark.heavy
@pytest.mark.parametrize("name", SIMULATORS)
def test_the_shipped_ones_keep_the_contract(name: str) -> None:
    env = make(name, 2)
    check_spaces(env.single_observation_space, env.single_action_space)
    assert isinstance(env, BatchedEnv)
    assert len(Query.of(env.reset(seed=0)[0])) == 2
