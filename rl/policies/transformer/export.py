"""A Q network as an ONNX model, checked against torch."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from rl.onnx_export import (
    OPSET,
    OPSETS,
    largest_difference,
    to_onnx_bytes,
)
from rl.policies.transformer.network import QNetwork
from rl.policy.errors import PolicyError
from rl.policy.queries import N_OUTCOMES

INPUTS = ("items", "mask", "history", "features")
_CHECKED = ((1, 1, 1), (1, 10, 20), (2, 3, 7), (17, 40, 33), (64, 10, 20))  # requests, candidates, history entries


def to_onnx(network: QNetwork, seed: int = 0, opset: int = OPSET) -> tuple[bytes, float]:
    """Return a Q network as an ONNX model, and its largest difference to torch on random requests of several sizes.

    The inputs are those of `QNetwork.forward`: `items` [B, A] and `history` [B, T, 3] as int64, `mask` [B, A] as bool,
    `features` [B, A, F] as float32 (left out for a network without features); the output is `q` [B, A], and those of a
    slate network are `nothing` [B], `added` and `logits` [B, A]. B, A and T may be anything from 1.

    Raises:
        PolicyError: there is no such opset (see `rl.onnx_export.OPSETS`), or the difference is more than 1e-4.
    """
    if opset not in OPSETS:
        raise PolicyError(f"opset must be between {OPSETS[0]} and {OPSETS[-1]}, got {opset}")
    network = network.eval()
    batch, candidates, entries = (torch.export.Dim(name) for name in ("batch", "candidates", "entries"))
    dynamic = {
        "items": {0: batch, 1: candidates},
        "mask": {0: batch, 1: candidates},
        "history": {0: batch, 1: entries},
        "features": {0: batch, 1: candidates},
    }
    asked = requests(network, (5, 6, 7), np.random.default_rng(seed))
    example = {name: asked[name] for name in _names(network)}
    blob = to_onnx_bytes(_Positional(network), example, output_names(network), dynamic, opset)
    return blob, difference(network, blob, seed)


def difference(network: QNetwork, blob: bytes, seed: int = 0) -> float:
    """Return the largest difference between an ONNX model and a network on random requests; see `to_onnx`."""
    return largest_difference(blob, _cases(network, np.random.default_rng(seed)), PolicyError)


def _cases(network: QNetwork, rng: np.random.Generator) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Return random requests with what torch computes of them."""
    for sizes in _CHECKED:
        asked = requests(network, sizes, rng)
        with torch.inference_mode():
            computed = network.outputs(*(asked[name] for name in INPUTS))
        inputs = {name: asked[name] for name in _names(network)}
        yield inputs, computed


def output_names(network: QNetwork) -> list[str]:
    """Return the names of what a network's ONNX model computes; see `to_onnx`."""
    asked = requests(network, (1, 1, 1), np.random.default_rng(0))
    with torch.inference_mode():
        return list(network.outputs(*(asked[name] for name in INPUTS)))


def requests(network: QNetwork, sizes: tuple[int, int, int], rng: np.random.Generator) -> dict[str, Tensor]:
    """Return random inputs as tensors: B requests with A candidates and T history entries, some of them padding."""
    b, a, t = sizes
    age = np.maximum(0, np.arange(t, 0, -1) - rng.integers(t + 1, size=(b, 1)))
    entries = np.stack([rng.integers(network.n_items + 3, size=(b, t)), rng.integers(N_OUTCOMES, size=(b, t)), age], 2)
    mask = rng.random((b, a)) < 0.8
    mask[:, 0] = True
    return {
        "items": torch.from_numpy(rng.integers(network.n_items + 3, size=(b, a))),  # some unknown
        "mask": torch.from_numpy(mask),
        "history": torch.from_numpy(entries * (age > 0)[:, :, None]),
        "features": torch.from_numpy(rng.normal(size=(b, a, network.n_features)).astype(np.float32)),
    }


def _names(network: QNetwork) -> list[str]:
    return [name for name in INPUTS if name != "features" or network.n_features]


class _Positional(nn.Module):
    """A network that takes the tensors that it needs, in order: without features it takes none."""

    def __init__(self, network: QNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        items, mask, history, *features = tensors
        nothing = items.new_zeros((items.shape[0], 1, 0), dtype=torch.float32)
        return tuple(self.network.outputs(items, mask, history, features[0] if features else nothing).values())
