"""How good a network is: losses, accuracies and errors on given rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rl.networks.description.inputs import NetworkError
from rl.networks.description.nodes import Output
from rl.networks.module.losses import (
    action_name,
    has_target,
    row_losses,
    weighted_sum,
)
from rl.networks.module.network import Network, evaluating

Tensors = Mapping[str, Tensor]
"""Of several names, all with the same rows."""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Losses:
    """Mean losses over rows."""

    total: float
    """Weighted sum of the outputs' losses."""
    outputs: dict[str, float]
    """Of each output, unweighted; NaN where no row has a target."""


@dataclass(frozen=True)
class Score:
    """How good one output is; NaN where no row has a target."""

    rows: int
    """That have a target."""
    loss: float
    accuracy: float | None
    """Share of right classes, or of right yes and no; None for a number."""
    absolute_error: float | None
    """Mean of |given - target|, of a Q output for the action taken; None for a class."""
    rmse: float | None
    """Root of the mean of (given - target)^2, likewise."""


def evaluate(network: Network, inputs: Tensors, targets: Tensors) -> dict[str, Score]:
    """Return how good every output is.

    Raises:
        NetworkError: tensors that do not fit.
    """
    outputs = network.description.outputs
    given = _forward(network, inputs, targets)
    losses = row_losses(outputs, given, targets)
    return {name: _score(name, output, given[name], targets, losses[name]) for name, output in outputs.items()}


def _score(name: str, output: Output, given: Tensor, targets: Tensors, losses: Tensor) -> Score:
    has = has_target(name, output, targets)
    given, target = given[has], targets[name][has]
    hit: Tensor | None = None
    error: Tensor | None = None
    match output.kind:
        case "class":
            hit = given.argmax(dim=1) == target
        case "binary":
            hit = (given > 0) == (target > 0.5)
        case "q":
            error = given.gather(1, targets[action_name(name)][has][:, None]).squeeze(1) - target
        case "regression":
            error = given - target
    return Score(
        rows=int(has.sum()),
        loss=float(losses.mean()),
        accuracy=None if hit is None else float(hit.double().mean()),
        absolute_error=None if error is None else float(error.abs().mean()),
        rmse=None if error is None else float(error.square().mean().sqrt()),
    )


def compute_losses(network: Network, inputs: Tensors, targets: Tensors) -> Losses:
    """Return the mean losses without dropout.

    Raises:
        NetworkError: tensors that do not fit.
    """
    outputs = network.description.outputs
    return mean_losses(outputs, row_losses(outputs, _forward(network, inputs, targets), targets))


def mean_losses(outputs: Mapping[str, Output], of_rows: Mapping[str, Tensor]) -> Losses:
    """Return the means of the losses of rows."""
    return Losses(
        total=float(weighted_sum(outputs, of_rows)),
        outputs={name: float(losses.mean()) for name, losses in of_rows.items()},
    )


def _forward(network: Network, inputs: Tensors, targets: Tensors) -> dict[str, Tensor]:
    """Return the outputs for all rows, computed in parts that fit in memory."""
    rows = torch.arange(same_rows(inputs, targets))
    with evaluating(network), torch.no_grad():
        parts = [network(take(inputs, part)) for part in torch.split(rows, _ROWS_AT_ONCE)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def take(tensors: Tensors, rows: Tensor) -> dict[str, Tensor]:
    """Return some rows of each tensor."""
    return {name: tensor[rows] for name, tensor in tensors.items()}


def same_rows(inputs: Tensors, targets: Tensors) -> int:
    """Return how many rows all tensors have.

    Raises:
        NetworkError: they differ, or there are none.
    """
    rows = {name: len(tensor) for name, tensor in {**inputs, **targets}.items()}
    if len(set(rows.values())) != 1 or 0 in rows.values():
        raise NetworkError(f"inputs and targets need the same rows, at least one; got {rows}")
    return next(iter(rows.values()))
