"""RLlib's own ways with our algorithms: evaluation, searches by Ray Tune, and environments of one's own."""

from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.tune.search.variant_generator import generate_variants

from rl.algorithms.bandit.algorithm import Bandit, BanditConfig
from rl.algorithms.bypass.rollout import BatchedEnvRunner
from rl.algorithms.configuration import is_searched
from rl.algorithms.dqn.algorithm import DQNConfig
from rl.algorithms.dqn.config import DQNHyperparameters
from rl.policies import LinearThompsonConfig, LinUCBConfig
from rl.policies.baselines import Random
from rl.policies.linear.per_item import PerItem
from tests.support.own import Coins, Corridor

pytestmark = pytest.mark.usefixtures("ray_local")

GREEDY = {"explore": False}
PER_ITEM = {"kind": "lin_ucb", "models": "per_item", "explorer": {"kind": "epsilon_greedy", "epsilon": 0.5}}


def config(env: Any = Coins, **evaluation: Any) -> BanditConfig:
    made: BanditConfig = BanditConfig().environment(env).training(policy=PER_ITEM)
    made.env_runners(num_env_runners=0, num_envs_per_env_runner=8).reporting(min_sample_timesteps_per_iteration=400)
    made.evaluation(**evaluation).debugging(seed=0, log_level="ERROR")
    return made


def learned(algorithm: Algorithm) -> dict[str, np.ndarray]:
    state: dict[str, np.ndarray] = (
        algorithm.learner_group._learner.module["default_policy"].acting_policy().state_dict()
    )
    return state


def of_episodes(results: dict[str, Any]) -> tuple[int, float]:
    played = results["env_runners"]
    return int(played["num_episodes"]), float(played["episode_return_mean"])


def test_evaluation_plays_whole_episodes_and_leaves_the_training_alone() -> None:
    """Of two coins the second pays 1. Half of the draws are uniform, so that three quarters of them earn."""
    plain, evaluated = config().build_algo(), config(evaluation_duration=2_000).build_algo()
    for _ in range(2):
        plain.train()
        evaluated.train()
        episodes, mean = of_episodes(evaluated.evaluate())
        assert episodes == 2_000
        assert mean == pytest.approx(0.75, abs=0.04)
    assert all(np.array_equal(array, learned(plain)[name]) for name, array in learned(evaluated).items())
    for algorithm in (plain, evaluated):
        algorithm.train()
    steps = [a.metrics.peek(("env_runners", "num_env_steps_sampled_lifetime")) for a in (plain, evaluated)]
    assert steps == [1_200, 1_200]


@pytest.mark.slow
@pytest.mark.parametrize("runners", [0, 1])
def test_an_evaluation_within_the_training_has_runners_of_its_own(runners: int) -> None:
    made = config(evaluation_interval=1, evaluation_num_env_runners=runners, evaluation_duration=13)
    algorithm = made.evaluation(evaluation_config=GREEDY | {"num_cpus_per_env_runner": 0.1}).build_algo()
    results = [algorithm.train()["evaluation"] for _ in range(2)]
    assert [of_episodes(result) for result in results] == [
        (14, 1.0)
    ] * 2  # 13 on 7 of 8 rows, twice each; no exploration
    algorithm.stop()


def test_steps_are_played_where_they_are_asked_for() -> None:
    of_steps = {"evaluation_duration_unit": "timesteps", "evaluation_duration": 30}
    algorithm = config(evaluation_interval=1, evaluation_config=GREEDY, **of_steps).build_algo()
    played = algorithm.train()["evaluation"]["env_runners"]
    assert (played["num_env_steps_sampled"], played["episode_return_mean"]) == (32, 1.0)
    with pytest.raises(ValueError, match="evaluation_duration_unit 'timesteps' needs runners of its own"):
        config(**of_steps).validate()


def test_a_runner_plays_episodes_apart_from_its_samples() -> None:
    runner = BatchedEnvRunner(config=config(Corridor))
    before = runner.sample(num_timesteps=16)
    seen = runner._observation
    assert sum(piece.env_steps() for piece in runner.sample(num_episodes=5)) >= 5 * 3
    assert runner._observation is seen
    assert len(before) == 16
    with pytest.raises(ValueError, match="not by random actions"):
        BatchedEnvRunner.sample(runner, random_actions=True)  # type: ignore[call-overload]


def test_without_exploring_the_best_is_done() -> None:
    runner = BatchedEnvRunner(config=config())
    assert isinstance(runner._policy(True), PerItem)
    assert not isinstance(runner._policy(False), PerItem | Random)


# Searches


@pytest.mark.slow
def test_tune_tries_each_policy_of_a_grid() -> None:
    made = config().training(policy=tune.grid_search([LinearThompsonConfig(models="per_item"), {"kind": "random"}]))
    assert is_searched(made.hyperparameters)
    with pytest.raises(ValueError, match=r"only ray\.tune\.Tuner can run this configuration"):
        made.build_algo()
    results = tune.Tuner(
        Bandit, param_space=made, run_config=tune.RunConfig(stop={"training_iteration": 1}, verbose=0)
    ).fit()
    assert not results.errors
    means = [results[number].metrics["env_runners"]["episode_return_mean"] for number in range(2)]  # type: ignore[index]
    assert means[1] == pytest.approx(0.5, abs=0.15)
    assert means[0] > 0.8


def test_choices_are_checked_and_become_objects() -> None:
    """Ray Tune cannot tell a dictionary from what it puts in an object's place while it searches."""
    grid = BanditConfig().training(policy=tune.grid_search([LinUCBConfig(), {"kind": "lin_ucb", "alpha": 2.0}]))
    assert grid.hyperparameters["policy"] == {"grid_search": [LinUCBConfig(), LinUCBConfig(alpha=2.0)]}
    drawn: Any = BanditConfig().training(policy=tune.choice([{"kind": "lin_ucb"}]))
    assert drawn.hyperparameters["policy"].categories == [LinUCBConfig()]
    with pytest.raises(ValueError, match=r"policy: .*'nothing'"):
        BanditConfig().training(policy=tune.grid_search([{"kind": "nothing"}]))


def test_parts_of_a_policy_may_be_searched_and_others_are_checked() -> None:
    assert is_searched({"kind": "lin_ucb", "alpha": tune.grid_search([0.1, 1.0])})
    assert is_searched(tune.choice([LinUCBConfig(), LinearThompsonConfig()]))
    assert not is_searched(LinUCBConfig())
    with pytest.raises(ValueError, match=r"policy.lin_ucb.alhpa: Extra inputs are not permitted"):
        BanditConfig().training(policy={"kind": "lin_ucb", "alhpa": 1.0})


def test_tune_tries_each_value_of_a_hyper_parameter() -> None:
    """By `training`, in a dictionary beside RLlib's own fields, and whole sets of them."""
    wanted = [1e-3, 2e-3]
    searched = [
        DQNConfig().training(lr=tune.grid_search(wanted)),
        DQNConfig().training(hyperparameters=tune.grid_search([DQNHyperparameters(lr=lr) for lr in wanted])),
    ]
    for made in searched:
        with pytest.raises(ValueError, match=r"only ray\.tune\.Tuner can run this configuration"):
            made.environment("raycommend/Shop-v0").validate()
        variants = [variant for _, variant in generate_variants(made.to_dict())]
        tried = [DQNConfig().update_from_dict(variant) for variant in variants]
        assert [(one.lr, one.hyperparameters) for one in tried] == [(lr, DQNHyperparameters(lr=lr)) for lr in wanted]
    for value in (0.0, tune.grid_search([1e-3, 0.0])):
        with pytest.raises(ValueError, match=r"lr: Input should be greater than 0, got 0\.0"):
            DQNConfig().training(lr=value)


def test_a_field_that_rllib_has_too_is_that_of_the_hyper_parameters() -> None:
    made = DQNConfig().training(lr=2e-3, grad_clip=1.0, gamma=0.9)
    assert made.hyperparameters == DQNHyperparameters(lr=2e-3, grad_clip=1.0, gamma=0.9)
    assert made.update_from_dict({"lr": 3e-3}).hyperparameters.lr == 3e-3
    assert (made.copy().lr, made["gamma"], made.total_train_batch_size) == (3e-3, 0.9, 128)
    for name in DQNHyperparameters.model_fields:  # a property of RLlib's would hide one
        assert made[name] == getattr(made.hyperparameters, name)
    with pytest.raises(AttributeError, match="DQNConfig has no 'lr_'"):
        _ = made.lr_


# Environments


@pytest.mark.slow
def test_environments_of_ones_own_are_trained_in() -> None:
    tune.register_env("mine", lambda options: Corridor(**options))
    for env, options in (
        ("tests.support.own:Corridor", {}),
        (Corridor, {"length": 2}),
        ("mine", {"length": 2}),
        (Coins, {}),
    ):
        algorithm = config(env).environment(env_config=options).build_algo()
        assert algorithm.train()["env_runners"]["num_episodes"] > 0
        algorithm.stop()


@pytest.mark.slow
def test_deep_q_learning_walks_a_corridor_to_its_end() -> None:
    """Two steps cost .1 each, the third pays 1; whoever does not learn that is cut off at -2."""
    made = (
        DQNConfig()
        .environment("tests.support.own:Corridor")
        .env_runners(num_envs_per_env_runner=16)
        .training(network={"width": 16, "layers": 0}, horizon=4_000, lr=3e-3, env_steps_per_update=8, tau=0.05)
        .evaluation(evaluation_duration=20, evaluation_interval=1, evaluation_config=GREEDY)
        .debugging(seed=0, log_level="ERROR")
    )
    algorithm = made.build_algo()
    while algorithm.env_steps < 4_000:
        results = algorithm.train()
    episodes, mean = of_episodes(results["evaluation"])
    assert episodes == 20
    assert mean == pytest.approx(0.8)
    algorithm.stop()


@pytest.mark.parametrize("made", [BanditConfig, DQNConfig])
def test_environments_that_there_are_not_are_refused(made: Any) -> None:
    tune.register_env("nothing", lambda options: None)
    for env, said in (
        (None, "no environment: name one by .environment"),
        ("nobody", "there is no simulator 'nobody'"),
        ("tests.support.own:Nobody", "there is no simulator 'tests.support.own:Nobody'"),
        ("nothing", "environment nothing: needs a gymnasium.Env, .* got nothing"),
        ("Pendulum-v1", "action: needs a Discrete space"),
        *([("raycommend/Shop-v0", "linear_thompson learns from features")] if made is BanditConfig else []),
    ):
        with pytest.raises(ValueError, match=said):
            (made() if env is None else made().environment(env)).build_algo()
