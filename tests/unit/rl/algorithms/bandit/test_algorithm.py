"""Bandits as an RLlib algorithm: runners, learner, checkpoints. The policies' numbers are tested with the policies."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from rl.algorithms.bandit.algorithm import Bandit, BanditConfig, to_impressions
from rl.algorithms.bandit.learner import as_batch
from rl.algorithms.bandit.module import BanditModule, build_policy
from rl.algorithms.batch import Transitions
from rl.algorithms.bypass.rollout import BatchedEnvRunner
from rl.policies import (
    LinearThompsonConfig,
    LinUCBConfig,
    NeuralLinearConfig,
    PolicyConfig,
    RandomConfig,
)
from rl.policies.linear.basis import RandomFourier
from rl.policy.interface import Policy
from rl.policy.queries import DENSE, Impressions, Query
from rl.simulators.registry import make, register

pytestmark = pytest.mark.usefixtures("ray_local")

WHEEL = "raycommend/Wheel-v0"
THOMPSON = LinearThompsonConfig(models="per_item", samples=10, basis=RandomFourier(n=8, length_scale=0.5))
NEURAL = NeuralLinearConfig(hidden=(6,), refresh_every=64, capacity=100, steps=5, batch=16)
two_policies = pytest.mark.parametrize("policy", [THOMPSON, NEURAL], ids=lambda policy: policy.kind)


def config(policy: PolicyConfig = THOMPSON, seed: int = 0, runners: int = 0) -> BanditConfig:
    made: BanditConfig = BanditConfig().environment(WHEEL, env_config={"delta": 0.8}).training(policy=policy)
    made.env_runners(num_env_runners=runners, num_envs_per_env_runner=8, num_cpus_per_env_runner=0.1)
    made.reporting(min_sample_timesteps_per_iteration=40).debugging(seed=seed, log_level="ERROR")
    return made


class Spied(Bandit):
    """Keeps what its learner was given."""

    def training_step(self) -> None:
        if not hasattr(self, "given"):
            self.given: list[Impressions] = []
            update = self.learner_group.update

            def spied(batch: Any, **more: Any) -> Any:
                columns = batch[DEFAULT_MODULE_ID]
                given: dict[str, Any] = {name: np.array(columns[name]) for name in DENSE}
                self.given.append(Impressions(**given))
                return update(batch=batch, **more)

            setattr(self.learner_group, "update", spied)  # noqa: B010
        super().training_step()


def module_of(algorithm: Algorithm) -> BanditModule:
    module: BanditModule = algorithm.learner_group._learner.module[DEFAULT_MODULE_ID]
    return module


def learned(algorithm: Algorithm) -> dict[str, np.ndarray]:
    return module_of(algorithm).acting_policy().state_dict()


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], atol: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_allclose(other[name], array, rtol=0, atol=atol)


def fresh(policy: PolicyConfig = THOMPSON) -> Policy:
    return build_policy(policy, make(WHEEL, 1).single_observation_space)


@pytest.mark.slow
@two_policies
def test_same_seed_same_learning_other_seed_another(policy: PolicyConfig) -> None:
    states = []
    for seed in (5, 5, 6):
        algorithm = config(policy, seed).build_algo()
        algorithm.train()
        states.append(learned(algorithm))
        algorithm.stop()
    same(states[0], states[1])
    assert any((states[2][name] != array).any() for name, array in states[0].items())


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 4])
def test_runners_merge_exactly(n: int) -> None:
    """The learner's posterior is that of one policy that saw the same transitions in another order, to 1e-6.

    The runners are in this process, which is what saves the minute that starting so many actors takes.
    """
    algorithm = Spied(config=config())
    runners = [BatchedEnvRunner(config=config(), worker_index=number) for number in range(1, n + 1)]

    def each(call: Callable[[BatchedEnvRunner], Any], local_env_runner: bool) -> list[Any]:
        return [call(runner) for runner in reversed(runners)]

    setattr(algorithm.env_runner_group, "foreach_env_runner", each)  # noqa: B010
    for _ in range(3):
        algorithm.training_step()
    whole = Impressions.concatenate(algorithm.given)
    assert [len(part) for part in algorithm.given] == [8 * n] * 3
    assert no_repeats(whole)
    order = np.random.default_rng(0).permutation(len(whole))
    other = fresh()
    other.update(Impressions(**{name: getattr(whole, name)[order] for name in DENSE}))
    same(learned(algorithm), other.state_dict(), atol=1e-6)
    algorithm.stop()


def no_repeats(observations: Impressions) -> bool:
    return len({tuple(row) for row in observations.features.tolist()}) == len(observations)


def test_the_same_transitions_give_the_same_posterior_however_many_learned_parts_of_them() -> None:
    runner = config(RandomConfig()).build_algo()
    parts = [to_impressions(runner.env_runner.sample(num_timesteps=40)) for _ in range(4)]
    runner.stop()
    algorithm = config().build_algo()
    states = []
    for groups in ([[0, 1, 2, 3]], [[0, 1], [2, 3]], [[3], [1], [0], [2]]):
        learner = algorithm.learner_group._learner
        learner.module[DEFAULT_MODULE_ID].set_state({f"learned.{k}": v for k, v in fresh().state_dict().items()})
        for group in groups:
            observations = Impressions.concatenate([parts[number] for number in group])
            algorithm.learner_group.update(batch=as_batch(observations, len(observations)))
        states.append(learned(algorithm))
    algorithm.stop()
    same(states[0], states[1], atol=1e-9)
    same(states[0], states[2], atol=1e-9)


@pytest.mark.slow
@two_policies
def test_a_checkpoint_restores_every_bit_and_goes_on_alike(policy: PolicyConfig, tmp_path: Path) -> None:
    algorithm = config(policy).build_algo()
    algorithm.train()
    path = algorithm.save_to_path(str(tmp_path / "checkpoint"))
    saved = learned(algorithm)
    restored = [Algorithm.from_checkpoint(path) for _ in range(2)]
    for one in restored:
        same(saved, learned(one))
        assert learned(one)["A"].dtype == np.float64
    more = to_impressions(algorithm.env_runner.sample(num_timesteps=80))
    for one in (algorithm, *restored):  # the same observations lead to the same state,
        one.learner_group.update(batch=as_batch(more, len(more)))
    for one in restored:
        same(learned(algorithm), learned(one))
    states = []
    for one in restored:  # and two that go on from the checkpoint do the same
        one.train()
        states.append(learned(one))
        one.stop()
    same(states[0], states[1])
    algorithm.stop()


def test_a_restored_run_does_not_see_its_first_contexts_again(tmp_path: Path) -> None:
    algorithm = Spied(config=config())
    algorithm.train()
    first = algorithm.given[0]
    path = algorithm.save_to_path(str(tmp_path / "checkpoint"))
    algorithm.stop()
    restored = Algorithm.from_checkpoint(path)
    restored.train()
    assert (restored.given[0].features[0] != first.features[0]).any()
    restored.stop()


@pytest.mark.slow
def test_actors_act_by_what_was_learned_and_a_killed_one_is_replaced() -> None:
    algorithm = Spied(config=config(runners=2).fault_tolerance(restart_failed_env_runners=True))
    algorithm.train()
    before = states_of_actors(algorithm)
    assert len(before) == 2
    for state in before.values():
        same(learned(algorithm), state)
    ray.kill(algorithm.env_runner_group._worker_manager.actors()[1], no_restart=False)
    for _ in range(50):
        algorithm.train()
        if len(algorithm.given[-1]) == 16 and len(before.keys() & states_of_actors(algorithm).keys()) == 1:
            break
    after = states_of_actors(algorithm)
    assert len(after) == 2
    assert len(before.keys() & after.keys()) == 1
    whole = Impressions.concatenate(algorithm.given)
    assert no_repeats(whole)  # the new one does not go through what the old one has seen
    other = fresh()
    other.update(whole)
    for state in (learned(algorithm), *after.values()):
        same(state, other.state_dict(), atol=1e-6)
    algorithm.stop()


def states_of_actors(algorithm: Algorithm) -> dict[int, dict[str, np.ndarray]]:
    """Return what each actor acts by, by its process."""
    return dict(
        algorithm.env_runner_group.foreach_env_runner(
            lambda runner: (os.getpid(), runner.module.acting_policy().state_dict()), local_env_runner=False
        )
    )


# The module by itself, and in RLlib's own runner.


def module() -> BanditModule:
    env = make(WHEEL, 1)
    spaces = {"observation_space": env.single_observation_space, "action_space": env.single_action_space}
    return BanditModule(**spaces, model_config={"policy": THOMPSON.model_dump()})


def some(n: int = 30) -> Impressions:
    rng = np.random.default_rng(0)
    zeros = np.zeros(n, dtype=np.int64)
    return Impressions(rng.standard_normal((n, 3)), zeros, rng.integers(1, 6, size=n), rng.random(n), np.ones(n))


def test_the_buffers_are_the_policys_arrays_in_full_precision() -> None:
    one, other = module(), module()
    one.learn(some())
    buffers = dict(one.named_buffers())
    assert buffers.keys() == {f"learned.{name}" for name in ("A", "b", "x", "rewards", "powers")}
    assert all(buffer.dtype == torch.float64 for buffer in buffers.values())
    other.set_state(one.get_state())
    same(one.acting_policy().state_dict(), other.acting_policy().state_dict())
    third = module()
    third.load_state_dict(one.state_dict())
    same(one.acting_policy().state_dict(), third.acting_policy().state_dict())


def test_a_state_that_was_handed_out_does_not_change() -> None:
    one = module()
    state = one.get_state()
    one.learn(some())
    assert not state["learned.b"].any()


def test_inference_takes_the_best_and_exploration_says_how_likely() -> None:
    one = module()
    one.learn(some())
    env = make(WHEEL, 200)
    observation, _ = env.reset(seed=0)
    batch = {Columns.OBS: {name: torch.from_numpy(np.array(array)) for name, array in observation.items()}}
    best = one.forward_inference(batch)[Columns.ACTIONS]
    np.testing.assert_array_equal(best, one.acting_policy().expected(Query.of(observation)).argmax(axis=1))
    drawn = one.forward_exploration(batch)
    assert drawn[Columns.ACTIONS].shape == drawn[Columns.ACTION_LOGP].shape == (200,)
    shares = torch.exp(drawn[Columns.ACTION_LOGP]).numpy()
    assert shares.max() <= 1
    votes = (shares - 0.02 / 5) / 0.98 * 10  # of 10 samples, above the floor
    np.testing.assert_allclose(votes, np.round(votes), atol=1e-9)


def test_rllibs_own_runner_can_act_by_the_module() -> None:
    register()
    made = config().env_runners(env_runner_cls=SingleAgentEnvRunner, num_envs_per_env_runner=1)
    made.environment(env=Registered, env_config={"delta": 0.8})
    runner = SingleAgentEnvRunner(config=made)
    episodes = runner.sample(num_timesteps=12)
    assert sum(len(episode) for episode in episodes) == 12
    assert all(len(episode.get_extra_model_outputs(Columns.ACTION_LOGP)) == len(episode) for episode in episodes)


class Registered(gym.Wrapper[Any, Any, Any, Any]):
    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(gym.make(WHEEL, **options))


# Configuration


def test_wrong_configurations_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="alhpa"):
        BanditConfig().training(policy={"kind": "lin_ucb", "alhpa": 1.0})
    with pytest.raises(ValueError, match="num_learners=2"):
        config().learners(num_learners=2).validate()


def test_a_dictionary_describes_a_policy() -> None:
    made = BanditConfig().training(policy={"kind": "lin_ucb", "alpha": 2.0, "models": "per_item"})
    assert made.hyperparameters.policy == LinUCBConfig(alpha=2.0, models="per_item")
    assert made.gamma is None


def transitions(slots: int, logged: dict[str, np.ndarray]) -> Transitions:
    n = 2
    observation = {
        "features": np.arange(12.0).reshape(n, 1, 6),
        "items": np.array([[1, 2, 3], [3, 2, 1]]),
        "mask": np.ones((n, 3), dtype=np.int8),
    }
    actions = np.array([[0, 1], [0, 2]])[:, :slots]
    ones = np.ones((n, slots))
    return Transitions(observation, actions, ones, np.array([7.0, 8.0]), np.zeros(n), observation, logged)


def test_observations_of_transitions() -> None:
    observations = to_impressions(transitions(1, {}))
    assert observations.items.tolist() == [1, 3]
    assert observations.rewards.tolist() == [7.0, 8.0]
    assert observations.features.tolist() == np.arange(12.0).reshape(2, 6).tolist()


def test_every_slot_of_a_slate_is_observed() -> None:
    observations = to_impressions(transitions(2, {"rewards": np.array([[1.0, 0.0], [0.0, 5.0]])}))
    assert observations.items.tolist() == [1, 2, 3, 1]
    assert observations.rewards.tolist() == [1.0, 0.0, 0.0, 5.0]
    assert observations.features[:, 0].tolist() == [0.0, 0.0, 6.0, 6.0]
    with pytest.raises(ValueError, match="logs no 'rewards'"):
        to_impressions(transitions(2, {}))
