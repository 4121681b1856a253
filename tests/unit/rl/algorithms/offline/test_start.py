"""A learner that goes on from another: the same networks and optimiser, with new items after the known ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rl.algorithms.learners import learner_module
from rl.algorithms.offline.algorithm import OfflineQ, OfflineQConfig, OfflineSlateQConfig
from rl.algorithms.offline.start import save_learner, start_from_learner, start_from_weights
from rl.experience.checks import Columns
from rl.experience.transitions import write

pytestmark = pytest.mark.usefixtures("ray_local")
SMALL: dict[str, Any] = {"network": {"width": 4, "layers": 0}, "train_batch_size_per_learner": 32, "passes": 1}


def some(n: int = 200, slots: int = 1) -> Columns:
    """Return transitions of 4 candidates, of which the first is worth 1."""
    rng = np.random.default_rng(0)
    actions = np.stack([rng.permutation(4)[:slots] for _ in range(n)])
    columns: Columns = {
        "items": np.tile(np.arange(1, 5, dtype=np.int32), (n, 1)),
        "mask": np.ones((n, 4), np.int8),
        "actions": actions,
        "propensities": np.full((n, slots), 0.25, np.float32),
        "rewards": (actions == 0).any(axis=1).astype(np.float32),
    }
    if slots > 1:
        columns["chosen"] = np.where((actions == 0).any(axis=1), (actions == 0).argmax(axis=1), -1)
    return columns


def build(folder: Path, columns: Columns, n_items: int = 4, seed: int = 1) -> OfflineQ:
    path = folder / f"{n_items}.parquet"
    write(str(path), columns, n_items)
    config = OfflineSlateQConfig() if "chosen" in columns else OfflineQConfig()
    config.offline_data(input_=str(path)).training(**SMALL).debugging(seed=seed, log_level="ERROR")
    algorithm: OfflineQ = config.build_algo()
    return algorithm


def weights(algorithm: OfflineQ) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in learner_module(algorithm).net.state_dict().items()}


@pytest.mark.parametrize("slots", [1, 2])
def test_the_same_learner_goes_on_with_its_optimiser(tmp_path: Path, slots: int) -> None:
    first = build(tmp_path, some(slots=slots))
    first.train()
    save_learner(first, tmp_path / "learner.safetensors")
    second = build(tmp_path, some(slots=slots), seed=7)
    assert start_from_learner(second, tmp_path / "learner.safetensors")
    for name, tensor in weights(first).items():
        torch.testing.assert_close(weights(second)[name], tensor, rtol=0, atol=0)
    (one,), (other,) = (
        list(of.learner_group._learner.get_optimizer(DEFAULT_MODULE_ID).state.values()) for of in (first, second)
    )
    torch.testing.assert_close(other["exp_avg_sq"], one["exp_avg_sq"], rtol=0, atol=0)
    assert other["step"] == one["step"] > 0
    second.train()  # and it goes on
    assert any((weights(second)[name] != tensor).any() for name, tensor in weights(first).items())


def test_new_items_come_after_those_that_are_known(tmp_path: Path) -> None:
    first = build(tmp_path, some())
    first.train()
    save_learner(first, tmp_path / "learner.safetensors")
    second = build(tmp_path, some(), n_items=6, seed=7)
    fresh = weights(second)["item.weight"]
    assert not start_from_learner(second, tmp_path / "learner.safetensors")  # the optimiser begins anew
    table = weights(second)["item.weight"]
    torch.testing.assert_close(table[:5], weights(first)["item.weight"], rtol=0, atol=0)
    torch.testing.assert_close(table[5:], fresh[5:], rtol=0, atol=0)
    save_learner(second, tmp_path / "more.safetensors")
    third = build(tmp_path, some())
    with pytest.raises(ValueError, match=r"item\.weight is \[7, 4\], this network's is \[5, 4\]"):
        start_from_learner(third, tmp_path / "more.safetensors")


def test_an_artefacts_weights_are_both_networks(tmp_path: Path) -> None:
    first = build(tmp_path, some())
    first.train()
    second = build(tmp_path, some(), seed=7)
    start_from_weights(second, first.policy.state_dict())
    module = learner_module(second)
    for name, array in first.policy.state_dict().items():
        for network in (module.net, module._target):
            np.testing.assert_array_equal(network.state_dict()[name].numpy(), array)


def test_a_row_counts_as_much_as_its_weight(tmp_path: Path) -> None:
    """The loss of rows that count 0 to 3 is that of the rows again as often."""
    columns, counts = some(100), np.arange(100) % 4
    algorithm = build(tmp_path, columns)
    learner = algorithm.learner_group._learner

    def loss(rows: Columns) -> float:
        return float(
            learner.loss(algorithm.config, {name: torch.as_tensor(of) for name, of in rows.items()})[0].detach()
        )

    again = {name: np.repeat(of, counts, axis=0) for name, of in columns.items()}
    weighted = loss(columns | {"weights": counts.astype(np.float32)})
    assert weighted == pytest.approx(loss(again), rel=1e-4)
    assert weighted != pytest.approx(loss(columns), rel=1e-4)


def test_slates_without_what_was_chosen_are_refused(tmp_path: Path) -> None:
    columns = some(slots=2)
    del columns["chosen"]
    write(str(tmp_path / "table.parquet"), columns)
    config = OfflineSlateQConfig().offline_data(input_=str(tmp_path / "table.parquet")).training(**SMALL)
    with pytest.raises(ValueError, match="SlateQ learns from slates of two items or more with a column 'chosen'"):
        config.build_algo()
