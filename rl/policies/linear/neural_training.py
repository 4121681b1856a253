"""Trains the network of a neural-linear policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rl.policies.linear.evidence import mean_and_spread
from rl.policy.arrays import FloatArray
from rl.policy.queries import Impressions

Layers = list[tuple[FloatArray, FloatArray]]


class Options(Protocol):
    """How to train; see `NeuralLinearConfig` for the meanings."""

    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def batch(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: on matrices this small more only wait for each other, and add in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def train(layers: Layers, inputs: FloatArray, kept: Impressions, n_items: int, options: Options, seed: int) -> Layers:
    """Train layers with a linear output on top, and return the layers.

    The loss of an observation with count c, reward r and output f is c f² - 2 r f: that is (f - r)² up to a constant,
    and with the row of a correction (count 0, difference of the rewards) added it is that of the final reward. Rewards
    are taken as differences from their mean, in units of their standard deviation.

    Args:
        layers: weights [in, out] and bias [out] of each, where the training begins.
        inputs: [N, F] inputs of the first layer.
        kept: the N observations.
        n_items: number of outputs, one for each item from 1; 0: one output for all items.
        options: steps, batch size and learning rate of Adam.
        seed: of the batches.
    """
    generator = torch.Generator().manual_seed(seed)
    known = (kept.items > 0) | (n_items == 0)  # an unknown item has no output
    mean, spread = mean_and_spread(*(float(a[known].sum()) for a in (kept.counts, kept.rewards, kept.squares)))
    if not spread:
        return layers  # nothing to tell apart
    relative = (kept.rewards - mean * kept.counts) / spread
    x, rewards, counts = (torch.from_numpy(a[known]) for a in (inputs, relative, kept.counts))
    output = torch.from_numpy(kept.items[known] - 1 if n_items else np.zeros(known.sum(), dtype=np.int64))
    hidden = [(_parameter(w), _parameter(c)) for w, c in layers]
    last = torch.zeros(len(layers[-1][1]) + 1, max(n_items, 1), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([*(p for layer in hidden for p in layer), last], lr=options.learning_rate)
    for _ in range(options.steps):
        rows = torch.randint(len(x), (options.batch,), generator=generator)
        phi = x[rows]
        for weights, bias in hidden:
            phi = torch.relu(phi @ weights + bias)
        f = (phi @ last[:-1] + last[-1]).gather(1, output[rows, None])[:, 0]
        loss = (counts[rows] * f**2 - 2 * rewards[rows] * f).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    learned = [(w.detach().numpy(), c.detach().numpy()) for w, c in hidden]
    return learned if all(np.isfinite(array).all() for layer in learned for array in layer) else layers


def _parameter(array: FloatArray) -> Tensor:
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)
