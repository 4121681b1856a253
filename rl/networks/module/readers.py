"""The layers that inputs become.

Axis names: B rows, T places of a sequence, W width.
"""

import torch
from torch import Tensor, nn

from rl.networks.description.inputs import (
    CategoricalInput,
    Input,
    ListInput,
    NetworkError,
    NumericInput,
)
from rl.networks.module.layers import Activation, Pooled


def tensor_form(node: Input) -> tuple[tuple[int, ...], torch.dtype]:
    """Return the shape after the axis of rows, and the type, of an input's tensor."""
    match node:
        case CategoricalInput():
            return (), torch.int64
        case NumericInput():
            return (node.width,), torch.float32
        case _:
            return (node.length,), torch.int64


class Categorical(nn.Module):
    """An id [B] as its vector."""

    def forward(self, ids: Tensor, table: nn.Module) -> Activation:
        """Look ids up in a table, which belongs to the network: other inputs may share it."""
        return Activation(table(ids))


class Listed(nn.Module):
    """Ids [B, T] as vectors out of a table, pooled where the node says so."""

    def __init__(self, node: ListInput, width: int) -> None:
        super().__init__()
        self.pool = None if node.pool == "none" else Pooled(node.pool, width)
        self.places = (
            nn.Parameter(torch.randn(node.length, width) * width**-0.5)
            if node.kind != "tags" and node.positions
            else None
        )

    def forward(self, ids: Tensor, table: nn.Module) -> Activation:
        """Look ids up; id 0 is an empty place."""
        x, present = table(ids), ids != 0
        found = Activation(x if self.places is None else x + self.places, present)
        return found if self.pool is None else self.pool(found)


class Numeric(nn.Module):
    """Numbers, standardised by the statistics of the training data."""

    mean: Tensor
    deviation: Tensor
    rows: Tensor

    def __init__(self, node: NumericInput) -> None:
        super().__init__()
        self.standardise = node.standardise
        self.register_buffer("mean", torch.zeros(node.width))
        self.register_buffer("deviation", torch.ones(node.width))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))  # that the statistics are of; 0: not fitted

    def forward(self, x: Tensor) -> Activation:
        """Standardise [B, W]; what is missing becomes 0, which is the mean of what was standardised."""
        x = (x - self.mean) / self.deviation
        return Activation(torch.where(x.isnan(), 0.0, x))

    def fit(self, x: Tensor) -> None:
        """Take over mean and deviation of each column of [B, W], NaN left out; a constant column is only shifted.

        A second call does nothing: the weights above have been learned for the statistics of the first.

        Raises:
            NetworkError: a column has no value at all.
        """
        if not self.standardise or self.rows > 0:
            return
        x = x.double()  # sums of many float32 would lose digits
        mean = x.nanmean(dim=0)
        if mean.isnan().any():
            raise NetworkError(f"column {int(mean.isnan().nonzero()[0])} has no value to standardise by")
        deviation = (x - mean).square().nanmean(dim=0).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6 * mean.abs().clamp(min=1e-6), deviation, 1.0))
        self.rows.fill_(len(x))
