"""Offline learning: losses and weights by hand, what is refused, and a training that goes on where it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID

from data.errors import DataError
from data.settings import Settings
from rl.algorithms.batch import to_multi_agent
from rl.algorithms.offline.algorithm import OfflineQ, OfflineQConfig
from rl.algorithms.offline.config import OfflineQHyperparameters
from rl.algorithms.offline.learner import (
    compute_surprise,
    evenness,
    importance_weights,
    normalise,
)
from rl.artefacts.artefact import load
from rl.experience.checks import Columns
from rl.experience.collection import collect_transitions
from rl.experience.transitions import write
from rl.policies import TransformerConfig
from rl.policies.baselines import Random
from rl.policies.transformer.config import QNetworkConfig
from rl.policy.explorers import EpsilonGreedy
from rl.policy.queries import Query
from rl.simulators.registry import make
from rl.training.kinds.offline.experiment import OfflineExperiment
from rl.training.kinds.offline.run import run

pytestmark = pytest.mark.usefixtures("ray_local")


def some(n: int = 100, seed: int = 0, future: bool = False) -> Columns:
    """Return transitions of 4 candidates, of which 1 to 4 are allowed."""
    rng = np.random.default_rng(seed)

    def seen() -> Columns:
        history = np.zeros((n, 3, 3), np.int32)
        history[:, -1] = np.stack([rng.integers(1, 7, n), rng.integers(1, 4, n), np.ones(n, np.int64)], axis=1)
        mask = rng.random((n, 4)) < 0.5
        mask[np.arange(n), rng.integers(0, 4, n)] = True
        items = rng.integers(1, 7, (n, 4)).astype(np.int32)
        return {"items": items, "mask": mask.astype(np.int8), "history": history}

    now = seen()
    columns = now | {
        "actions": (now["mask"] * rng.random((n, 4))).argmax(1)[:, None],
        "propensities": rng.uniform(0.05, 1, (n, 1)).astype(np.float32),
        "rewards": rng.random(n, dtype=np.float32),
    }
    if future:
        columns["discounts"] = rng.choice(np.array([0, 0.5], np.float32), n)
        columns |= {f"next_{name}": column for name, column in seen().items()}
    return columns


def config(path: Path, columns: Columns, **training: Any) -> OfflineQConfig:
    write(str(path / "table.parquet"), columns)
    made = OfflineQConfig()
    made.offline_data(input_=str(path / "table.parquet")).debugging(seed=1, log_level="ERROR")
    small: dict[str, Any] = {"network": {"width": 4, "heads": 1, "layers": 0}, "train_batch_size_per_learner": 32}
    made.training(**small | training)
    return made


def build(path: Path, columns: Columns, **training: Any) -> OfflineQ:
    algorithm: OfflineQ = config(path, columns, **training).build_algo()
    return algorithm


def loss_of(algorithm: OfflineQ, columns: Columns) -> tuple[float, dict[str, np.ndarray], np.ndarray]:
    """Return the learner's loss, what comes with it, and the Q values [N, A] that it was computed from."""
    learner = algorithm.learner_group._learner
    batch = {name: torch.as_tensor(column) for name, column in columns.items()}
    loss, results = learner.loss(algorithm.config, batch)
    q = learner.q_module.q_values(learner.q_module.net, batch)
    return loss.item(), {n: r.detach().numpy() for n, r in results.items()}, q.detach().numpy().astype(np.float64)


def taken_and_surprise(q: np.ndarray, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    taken = np.take_along_axis(q, columns["actions"], axis=1)[:, 0]
    sums = (np.exp(q) * columns["mask"]).sum(1)
    return taken, np.log(sums) - taken


def test_importance_weights_by_hand() -> None:
    # 1/4 over .5, .05 and .25 is .5, 5 and 1; clipped at 3: .5, 3, 1, of mean 1.5
    weights = importance_weights(torch.full((3,), 0.25), torch.tensor([0.5, 0.05, 0.25]), clip=3.0)
    np.testing.assert_allclose(weights, [1 / 3, 2.0, 2 / 3], rtol=1e-6)
    # (1/3 + 2 + 2/3)² = 9 over 3 (1/9 + 4 + 4/9) = 41/3
    np.testing.assert_allclose(evenness(weights), 27 / 41, rtol=1e-6)


def test_weights_that_are_all_nothing_stay_so() -> None:
    assert normalise(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert float(evenness(torch.zeros(3))) == 0.0


def test_surprise_by_hand() -> None:
    q = torch.tensor([[0.0, np.log(3.0), 50.0], [1.0, 2.0, 3.0]])
    mask = torch.tensor([[1, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(
        compute_surprise(q, q.gather(1, torch.tensor([[0], [2]]))[:, 0], mask), [np.log(4.0), 0.0]
    )


@pytest.mark.slow
@pytest.mark.parametrize("towards", ["behaviour", "uniform", "learned"])
@pytest.mark.parametrize("future", [False, True])
def test_the_conservative_loss_by_hand(tmp_path: Path, towards: str, future: bool) -> None:
    columns = some(future=future)
    options = {"conservatism": 0.3, "towards": towards, "weight_clip": 1.5, "temperature": 0.2, "double_q": False}
    algorithm = build(tmp_path, columns, **options)
    loss, results, q = loss_of(algorithm, columns)
    taken, surprise = taken_and_surprise(q, columns)
    target = columns["rewards"].astype(np.float64)
    if future:  # nothing is learned yet: the averaged network is the network
        _, _, after = loss_of(algorithm, columns | {n: columns[f"next_{n}"] for n in ("items", "mask", "history")})
        best = np.where(columns["next_mask"] == 1, after, -np.inf).max(1)
        target += columns["discounts"] * best
    p, allowed = columns["propensities"][:, 0], columns["mask"].sum(1)
    exponentials = np.exp(q / 0.2) * columns["mask"]
    learned = np.take_along_axis(exponentials / exponentials.sum(1, keepdims=True), columns["actions"], axis=1)[:, 0]
    weights = np.minimum({"behaviour": p, "uniform": 1 / allowed, "learned": learned}[towards] / p, 1.5)
    weights /= weights.mean()
    np.testing.assert_allclose(results["td_errors"], taken - target, atol=1e-6)
    np.testing.assert_allclose(loss, (weights * 0.5 * (taken - target) ** 2).mean() + 0.3 * surprise.mean(), rtol=1e-5)
    np.testing.assert_allclose(results["surprise"], surprise.mean(), rtol=1e-5)
    np.testing.assert_allclose(results["evenness"], weights.sum() ** 2 / (weights**2).sum() / 100, rtol=1e-5)


def test_the_cloning_loss_by_hand(tmp_path: Path) -> None:
    columns = some()
    loss, _, q = loss_of(build(tmp_path, columns, method="cloning"), columns)
    _, surprise = taken_and_surprise(q, columns)
    np.testing.assert_allclose(loss, surprise.mean(), rtol=1e-5)


def test_the_loss_of_cloning_what_was_earned_by_hand(tmp_path: Path) -> None:
    columns = some()
    loss, _, q = loss_of(build(tmp_path, columns, method="cloning", earned=True, weight_clip=4.0), columns)
    _, surprise = taken_and_surprise(q, columns)
    gains = np.maximum(columns["rewards"] - columns["rewards"].mean(), 0)
    weights = gains * np.minimum(1 / columns["propensities"][:, 0], 4.0)
    np.testing.assert_allclose(loss, (weights / weights.mean() * surprise).mean(), rtol=1e-5)


@pytest.mark.parametrize("method", ["conservative_q", "cloning"])
def test_what_was_not_allowed_does_not_count(tmp_path: Path, method: str) -> None:
    columns = some(future=True)
    algorithm = build(tmp_path, columns, method=method, towards="learned")
    rng = np.random.default_rng(5)
    changed = dict(columns)
    for prefix in ("", "next_"):
        other = rng.integers(1, 7, columns["items"].shape).astype(np.int32)
        changed[prefix + "items"] = np.where(columns[prefix + "mask"] == 1, columns[prefix + "items"], other)
        assert (changed[prefix + "items"] != columns[prefix + "items"]).any()
    assert loss_of(algorithm, changed)[0] == pytest.approx(loss_of(algorithm, columns)[0], rel=1e-6)


class Watched(OfflineQ):
    """Keeps what its learner was given."""

    def training_step(self) -> None:
        self.given: list[Columns] = []
        update = self.learner_group.update

        def watched(batch: Any, **more: Any) -> Any:
            self.given.append({name: np.array(column) for name, column in batch[DEFAULT_MODULE_ID].items()})
            return update(batch=batch, **more)

        setattr(self.learner_group, "update", watched)  # noqa: B010
        super().training_step()
        setattr(self.learner_group, "update", update)  # noqa: B010


@pytest.mark.slow
def test_every_call_of_train_is_a_pass_in_another_order(tmp_path: Path) -> None:
    columns = some()
    made = config(tmp_path, columns, passes=2)
    made.algo_class = Watched
    algorithm = made.build_algo()
    orders, rates = [], []
    for number in (1, 2):
        algorithm.train()
        assert [len(batch["rewards"]) for batch in algorithm.given] == [32, 32, 32, 4]
        orders.append(np.concatenate([batch["rewards"] for batch in algorithm.given]))
        rates.append(algorithm.learner_group._learner.get_optimizer(DEFAULT_MODULE_ID).param_groups[0]["lr"])
        assert algorithm.rows == 100 * number
    np.testing.assert_array_equal(np.sort(orders[0]), np.sort(columns["rewards"]))
    np.testing.assert_array_equal(np.sort(orders[1]), np.sort(columns["rewards"]))
    assert (orders[0] != orders[1]).any()
    np.testing.assert_allclose(rates, [1e-3, 0.02e-3])  # falls in the second half, to 2 %


@pytest.mark.slow
def test_a_restored_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    columns = some(future=True)
    algorithm = build(tmp_path, columns)
    algorithm.train()
    algorithm.save_to_path(str(tmp_path / "checkpoint"))
    algorithm.train()
    restored = Algorithm.from_checkpoint(str(tmp_path / "checkpoint"))
    assert restored.rows == 100
    restored.train()
    assert restored.rows == algorithm.rows == 200
    expected, found = algorithm.policy.state_dict(), restored.policy.state_dict()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_the_policy_is_the_averaged_network_and_greedy(tmp_path: Path) -> None:
    columns = some()
    algorithm = build(tmp_path, columns)
    algorithm.train()
    query = Query.of({name: columns[name] for name in ("items", "mask", "history")})
    slates = algorithm.policy.decide(query, 1, np.random.default_rng(0))
    module = algorithm.learner_group._learner.q_module
    q = module.forward_target({"obs": {n: torch.as_tensor(columns[n]) for n in ("items", "mask", "history")}})
    best = np.where(columns["mask"] == 1, q["qf_preds"].detach().numpy(), -np.inf).max(1)
    np.testing.assert_allclose(slates.scores[:, 0], best, rtol=1e-6)
    assert algorithm.policy.explorer == EpsilonGreedy(epsilon=0.0)


def test_a_learner_updates_from_columns_that_it_may_not_write_to(tmp_path: Path) -> None:
    columns = some()
    algorithm = build(tmp_path, columns)
    result = algorithm.learner_group.update(batch=to_multi_agent(columns), timesteps={})[0]
    assert result["td_errors"].shape == (100,)
    assert np.isfinite(result["loss"])


def test_a_training_needs_a_table() -> None:
    with pytest.raises(ValueError, match="name the table of transitions"):
        OfflineQConfig().build_algo()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "imitation"}, "method: Input should be 'conservative_q' or 'cloning', got 'imitation'"),
        ({"towards": "optimal"}, "towards: Input should be 'behaviour', 'uniform' or 'learned', got 'optimal'"),
        ({"loss": "mae"}, "loss: Input should be 'mse' or 'huber', got 'mae'"),
        ({"passes": 0}, "passes: Input should be greater than or equal to 1, got 0"),
        ({"weight_clip": -1.0}, "weight_clip: Input should be greater than 0, got -1.0"),
        ({"conservatism": -0.1}, "conservatism: Input should be greater than or equal to 0, got -0.1"),
    ],
)
def test_values_that_cannot_be_trained_with_are_refused(tmp_path: Path, changed: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, some(), **changed).validate()


def test_learners_elsewhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_learners must be 0, got 2"):
        config(tmp_path, some()).learners(num_learners=2).validate()


def test_a_table_of_slates_is_refused(tmp_path: Path) -> None:
    columns = some()
    columns["mask"][:] = 1
    columns["actions"] = np.tile([0, 1], (100, 1))
    columns["propensities"] = np.tile(columns["propensities"], (1, 2))
    with pytest.raises(ValueError, match=r"a transition must have one action, .* has slates \[2\]"):
        config(tmp_path, columns).validate()


def test_a_table_that_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as a table"):
        OfflineQConfig().offline_data(input_=str(tmp_path / "absent")).build_algo()


@pytest.mark.slow
def test_an_experiment_learns_from_a_given_table_and_saves_what_it_learned(tmp_path: Path) -> None:
    env = make("raycommend/Shop-v0", 20)
    write(str(tmp_path / "shop.parquet"), collect_transitions(Random(), env, 400, 0, np.random.default_rng(0)))
    experiment = OfflineExperiment(
        table=str(tmp_path / "shop.parquet"),
        offline=OfflineQHyperparameters(network=QNetworkConfig(width=4, heads=1, layers=0), passes=1),
        episodes=20,
        envs=20,
        track=False,
        out=tmp_path / "policy",
    )
    report = run(experiment, Settings(home=tmp_path))
    assert report["rows"] == 400
    assert "behaviour_return" not in report
    found = load(tmp_path / "policy")
    assert (found.digest, found.config) == (report["digest"], TransformerConfig(network=experiment.offline.network))
