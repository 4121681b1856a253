"""A network as an ONNX file, checked against torch before it is written."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.atomic import replace_file
from rl.networks.description.description import NetworkDescription
from rl.networks.description.inputs import CategoricalInput, NetworkError, NumericInput
from rl.networks.module.network import Network, evaluating
from rl.networks.module.readers import tensor_form
from rl.onnx_export import (
    OPSET,
    OPSETS,
    largest_difference,
    to_onnx_bytes,
)

_CHECKED_ROWS = (1, 2, 3, 17, 256)


def export_onnx(network: Network, path: Path | str, seed: int = 0, opset: int = OPSET) -> float:
    """Write a network as one ONNX file and return the largest difference to torch that was found.

    The graph takes every input and gives every output by its name, for any number of rows; outputs are as the
    network's forward gives them. Nothing is written unless onnxruntime computes from random inputs what torch does.

    Args:
        network: in training or evaluation mode; exported without dropout.
        path: of the file, whose folder exists.
        seed: of the random inputs.
        opset: version of ONNX's operators, 18 to 22. The default, 18, is for ONNX Runtime 1.14 and later; the IR
            version is the lowest that the operators allow, 8 with the default.

    Raises:
        NetworkError: there is no such opset, or an output differs by more than 1e-4 (of its size, where above 1).
    """
    if opset not in OPSETS:
        raise NetworkError(f"opset must be between {OPSETS[0]} and {OPSETS[-1]}, got {opset}")
    path = Path(path)
    names, outputs = list(network.description.inputs), list(network.description.outputs)
    rng = np.random.default_rng(seed)
    example = random_inputs(network.description, 3, rng)
    batch = {0: torch.export.Dim("batch")}
    with evaluating(network):
        positional, ordered = _Positional(network, names), {name: example[name] for name in names}
        blob = to_onnx_bytes(positional, ordered, outputs, dict.fromkeys(names, batch), opset)
    difference = largest_difference(blob, _cases(network, rng), NetworkError)
    with replace_file(path) as new:
        new.write_bytes(blob)
    return difference


class _Positional(nn.Module):
    """A network that takes and gives tensors in the order of its description: ONNX has no dictionaries."""

    def __init__(self, network: Network, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(dict(zip(self.names, tensors, strict=True))).values())


def _cases(network: Network, rng: np.random.Generator) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Return random inputs with what torch computes of them."""
    for rows in _CHECKED_ROWS:
        inputs = random_inputs(network.description, rows, rng)
        with evaluating(network), torch.no_grad():
            wanted = network(inputs)
        yield inputs, wanted


def random_inputs(description: NetworkDescription, rows: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return tensors of random inputs, with missing numbers, unknown ids, empty places and empty lists among them."""
    inputs = dict[str, Tensor]()
    for name, node in description.inputs.items():
        shape, dtype = tensor_form(node)
        if isinstance(node, NumericInput):
            numbers = rng.normal(size=(rows, *shape))
            numbers[rng.random(numbers.shape) < 0.1] = np.nan
            inputs[name] = torch.as_tensor(numbers, dtype=dtype)
        else:
            ids = rng.integers(description.embeddings[node.embedding].size, size=(rows, *shape))
            if not isinstance(node, CategoricalInput):
                ids[np.arange(node.length) >= rng.integers(node.length + 1, size=(rows, 1))] = 0
            inputs[name] = torch.as_tensor(ids, dtype=dtype)
    return inputs
