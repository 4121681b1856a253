"""Training networks: losses and scores against numbers worked out by hand, what is learned and what is refused."""

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rl.networks import (
    Epoch,
    Network,
    NetworkError,
    Training,
    build,
    evaluate,
    fit,
    parse,
)
from rl.networks.description.nodes import (
    BinaryOutput,
    ClassOutput,
    Output,
    QOutput,
    RegressionOutput,
)
from rl.networks.module.losses import row_losses, weighted_sum
from tests.support.networks import assert_equal, straight

NAN = float("nan")


# Losses

LN2, LN3 = math.log(2), math.log(3)


def test_losses_of_rows_are_those_of_the_books() -> None:
    outputs: dict[str, Output] = {
        "click": BinaryOutput(input="x"),
        "topic": ClassOutput(input="x", classes=3),
        "mse": RegressionOutput(input="x", loss="mse"),
        "huber": RegressionOutput(input="x", loss="huber"),
        "mae": RegressionOutput(input="x", loss="mae"),
        "value": QOutput(input="x", actions=2, loss="huber"),
        "square": QOutput(input="x", actions=2, loss="mse"),
    }
    number, q = torch.tensor([1.0, 4.0]), torch.tensor([[1.0, 5.0], [2.0, 7.0]])
    given = {"click": torch.tensor([0.0, 2.0]), "topic": torch.tensor([[0.0, 0.0, 0.0], [LN2, 0.0, 0.0]])}
    given |= {"mse": number, "huber": number, "mae": number, "value": q, "square": q}
    target = torch.tensor([0.5, 1.0])
    targets = {"click": torch.tensor([1.0, 0.0]), "topic": torch.tensor([2, 0])}
    targets |= {"mse": target, "huber": target, "mae": target, "value": torch.tensor([5.5, 0.0]), "square": target}
    targets |= {"value.action": torch.tensor([1, 0]), "square.action": torch.tensor([0, 1])}
    losses = row_losses(outputs, given, targets)
    assert losses.keys() == outputs.keys()
    assert_equal(losses["click"], [LN2, math.log(1 + math.exp(2))])
    assert_equal(losses["topic"], [LN3, LN2])  # probabilities 1/3, and 2/4
    assert_equal(losses["mse"], [0.25, 9.0])
    assert_equal(losses["huber"], [0.125, 2.5])
    assert_equal(losses["mae"], [0.5, 3.0])
    assert_equal(losses["value"], [0.125, 1.5])  # Q of the action taken: 5 for 5.5, 2 for 0
    assert_equal(losses["square"], [0.25, 36.0])  # 1 for .5, 7 for 1


OUTPUTS: dict[str, Output] = {
    "click": BinaryOutput(input="x", weight=3.0),
    "topic": ClassOutput(input="x", classes=3, weight=0.5),
    "rating": RegressionOutput(input="x", loss="mae", weight=2.0),
    "value": QOutput(input="x", actions=2, loss="mse", weight=0.0),
}
TARGETS = {
    "click": torch.tensor([1.0, NAN, -1.0]),
    "topic": torch.tensor([-1, -1, -1]),
    "rating": torch.tensor([NAN, -1.0, 3.0]),
    "value": torch.tensor([1.0, NAN, 1.0]),
    "value.action": torch.tensor([0, 0, -1]),
}


def test_rows_without_a_target_do_not_count_and_the_sum_is_weighted() -> None:
    given = {"click": torch.zeros(3), "topic": torch.zeros(3, 3), "rating": torch.zeros(3), "value": torch.zeros(3, 2)}
    losses = row_losses(OUTPUTS, given, TARGETS)
    assert_equal(losses["click"], [LN2])
    assert losses["topic"].shape == (0,)
    assert_equal(losses["rating"], [1.0, 3.0])
    assert_equal(losses["value"], [1.0])
    assert_equal(weighted_sum(OUTPUTS, losses), 3 * LN2 + 2 * 2.0)


def test_a_missing_target_gives_no_gradient() -> None:
    given = {name: torch.zeros(3, requires_grad=True) for name in ("click", "rating")}
    outputs = {name: OUTPUTS[name] for name in given}
    torch.autograd.backward(weighted_sum(outputs, row_losses(outputs, given, TARGETS)))
    assert given["click"].grad is not None
    assert given["rating"].grad is not None
    assert_equal(given["click"].grad, [3 * -0.5, 0.0, 0.0])
    assert_equal(given["rating"].grad, [0.0, 2 * 0.5, 2 * -0.5])


@pytest.mark.parametrize("missing", ["click", "value.action"])
def test_an_output_without_targets_is_named(missing: str) -> None:
    targets = {name: target for name, target in TARGETS.items() if name != missing}
    given = {"click": torch.zeros(3), "topic": torch.zeros(3, 3), "rating": torch.zeros(3), "value": torch.zeros(3, 2)}
    with pytest.raises(NetworkError, match=rf"targets\.{missing} is missing; there are: "):
        row_losses(OUTPUTS, given, targets)


# Training


def mixed(seed: int = 0) -> Network:
    description = straight(
        click={"kind": "binary"},
        topic={"kind": "class", "classes": 2},
        value={"kind": "q", "actions": 2, "weight": 0.5},
        rating={"kind": "regression", "weight": 2.0},
    )
    description["nodes"] = {"deep": {"kind": "dense", "input": "x", "width": 8, "dropout": 0.2}}
    for output in description["outputs"].values():
        output["input"] = "deep"
    return build(parse(description), seed)


def data(n: int = 200) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return numbers of which the first says everything; a third of the targets is missing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    yes, action = (x[:, 0] > 0).astype(np.float64), rng.integers(2, size=n)
    some = {name: rng.random(n) < 1 / 3 for name in ("click", "topic", "value", "rating")}
    targets = {
        "click": torch.tensor(np.where(some["click"], np.nan, yes), dtype=torch.float32),
        "topic": torch.tensor(np.where(some["topic"], -1, yes), dtype=torch.int64),
        "value": torch.tensor(np.where(some["value"], np.nan, yes * (2.0 * action - 1)), dtype=torch.float32),
        "value.action": torch.tensor(action),
        "rating": torch.tensor(np.where(some["rating"], np.nan, x[:, 0]), dtype=torch.float32),
    }
    return {"x": torch.tensor(x, dtype=torch.float32)}, targets


def test_training_lowers_every_loss() -> None:
    network, (inputs, targets) = mixed(), data()
    before = evaluate(network, inputs, targets)
    told: list[Epoch] = []
    history = fit(network, inputs, targets, Training(epochs=15, batch_size=20, learning_rate=0.02), told.append)
    after = evaluate(network, inputs, targets)
    assert told == history
    assert [epoch.number for epoch in history] == list(range(1, 16))
    assert not network.training
    for name in before:
        assert after[name].loss < 0.6 * before[name].loss, name
        assert history[-1].training.outputs[name] < history[0].training.outputs[name]
    of, weights = history[-1].training, {"click": 1, "topic": 1, "value": 0.5, "rating": 2}
    assert of.total == pytest.approx(sum(weights[name] * loss for name, loss in of.outputs.items()), rel=1e-5)
    assert history[-1].validation is None


def test_scores_are_counted_by_hand() -> None:
    outputs: dict[str, dict[str, Any]] = {"click": {"kind": "binary"}, "topic": {"kind": "class", "classes": 2}}
    outputs |= {"value": {"kind": "q", "actions": 2}, "rating": {"kind": "regression"}}
    network = build(parse(straight(**outputs)))
    for name in outputs:  # outputs 1 and more are x[0], x[1]; biases 0
        head = network.get_submodule(f"heads.node_{name}")
        assert isinstance(head, nn.Linear)
        head.weight.data, head.bias.data = torch.eye(2)[: head.out_features], torch.zeros(head.out_features)
    x = torch.tensor([[1.0, 2.0], [-1.0, -3.0], [4.0, 0.0]])
    targets = {
        "click": torch.tensor([1.0, 1.0, NAN]),
        "topic": torch.tensor([1, 0, 1]),
        "value": torch.tensor([2.5, NAN, 1.0]),
        "value.action": torch.tensor([1, 1, 0]),
        "rating": torch.tensor([NAN, NAN, NAN]),
    }
    scores = evaluate(network, {"x": x}, targets)
    assert astuple(scores["click"]) == (
        2,
        pytest.approx(math.log1p(math.exp(-1)) / 2 + math.log1p(math.exp(1)) / 2),
        0.5,
        None,
        None,
    )
    assert astuple(scores["topic"])[2:] == (pytest.approx(2 / 3), None, None)
    errors = (pytest.approx((0.5 + 3.0) / 2), pytest.approx(math.sqrt((0.25 + 9.0) / 2)))
    assert astuple(scores["value"]) == (2, pytest.approx((0.125 + 2.5) / 2), None, *errors)
    assert scores["rating"].rows == 0
    assert math.isnan(scores["rating"].loss)


def test_rows_held_out_are_not_learned_from() -> None:
    network, (inputs, targets) = mixed(), data()
    rows = torch.randperm(200, generator=torch.Generator().manual_seed(4))[:50]
    for name in targets:
        targets[name][rows] = 1  # of these alone, whatever x is
    history = fit(network, inputs, targets, Training(epochs=20, learning_rate=0.02, validation=0.25, seed=4))
    last = history[-1]
    assert last.validation is not None
    assert last.validation.outputs["click"] > 3 * last.training.outputs["click"]


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_own_randomness() -> None:
    inputs, targets = data()
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    networks = [mixed(), mixed(), mixed(1)]
    for network in networks:
        fit(network, inputs, targets, Training(epochs=2, seed=3))
    other = mixed()
    fit(other, inputs, targets, Training(epochs=2, seed=4))
    assert torch.equal(torch.rand(3), wanted)
    weights = [torch.cat([p.flatten() for p in network.parameters()]) for network in [*networks, other]]
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])
    assert not torch.allclose(weights[0], weights[3])


def test_an_output_of_weight_0_is_reported_but_not_learned() -> None:
    outputs: dict[str, dict[str, Any]] = {"click": {"kind": "binary"}, "rating": {"kind": "regression", "weight": 0.0}}
    network, (inputs, targets) = build(parse(straight(**outputs))), data()
    head = network.get_parameter("heads.node_rating.weight").clone()
    history = fit(network, inputs, targets, Training(epochs=2))
    assert torch.equal(network.get_parameter("heads.node_rating.weight"), head)
    assert history[0].training.outputs["rating"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"click": torch.zeros(3)}, "inputs and targets need the same rows, at least one; got .*'click': 3"),
        ({}, "the loss became (inf|nan) in epoch 1; try a lower learning_rate"),
    ],
)
def test_training_that_cannot_go_on_says_why(change: dict[str, Tensor], message: str) -> None:
    network, (inputs, targets) = mixed(), data()
    with pytest.raises(NetworkError, match=message):
        fit(network, inputs, targets | change, Training(learning_rate=1e30))


def test_nothing_to_learn_from_is_refused() -> None:
    network, (inputs, targets) = mixed(), data()
    nothing = {
        name: torch.full_like(target, -1 if target.dtype == torch.int64 else NAN) for name, target in targets.items()
    }
    with pytest.raises(NetworkError, match="no row has a target for any output"):
        fit(network, inputs, nothing)
    with pytest.raises(NetworkError, match="at least one; got"):
        fit(network, {"x": torch.zeros(0, 2)}, {name: target[:0] for name, target in targets.items()})


def test_a_batch_without_any_target_is_skipped() -> None:
    network, (inputs, targets) = mixed(), data(10)
    sparse = {name: torch.full_like(t, -1 if t.dtype == torch.int64 else NAN) for name, t in targets.items()}
    sparse["rating"][4] = 1.0
    history = fit(network, inputs, sparse, Training(epochs=2, batch_size=1))
    assert math.isfinite(history[1].training.total)
    assert math.isnan(history[1].training.outputs["click"])


def test_dropout_is_on_while_learning_and_off_while_judging() -> None:
    network, (inputs, targets) = mixed(), data(100)
    modes: list[tuple[bool, int]] = []
    network.register_forward_hook(lambda module, args, _: modes.append((module.training, len(args[0]["x"]))))
    fit(network, inputs, targets, Training(epochs=1, batch_size=40, validation=0.3))
    assert modes == [(True, 40), (True, 30), (False, 30)]
    network.train()
    evaluate(network, inputs, targets)
    assert modes[-1] == (False, 100)
    assert network.training


def test_statistics_are_those_of_the_rows_that_are_learned_from() -> None:
    description = straight(rating={"kind": "regression"})
    description["inputs"]["x"]["standardise"] = True
    network, (inputs, targets) = build(parse(description)), data(100)
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda module, args: seen.append(args[0]["x"]))
    fit(network, inputs, {"rating": targets["rating"]}, Training(epochs=1, batch_size=70, validation=0.3))
    assert_equal(network.features({"x": seen[0]}, "x").mean(dim=0), [0.0, 0.0])
    assert_equal(network.features({"x": seen[0]}, "x").std(dim=0, correction=0), [1.0, 1.0])
    assert abs(float(network.features({"x": seen[1]}, "x").mean())) > 1e-3


def test_every_epoch_sees_every_row_once_in_another_order() -> None:
    network, (inputs, targets) = mixed(), data(100)
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda module, args: seen.append(args[0]["x"][:, 0]))
    fit(network, inputs, targets, Training(epochs=2, batch_size=40))
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, inputs["x"][:, 0].sort().values)
    assert torch.equal(second.sort().values, inputs["x"][:, 0].sort().values)
