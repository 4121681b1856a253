"""A network as an ONNX file, checked against torch before it is written.

Needs onnx, onnxruntime, onnxscript and torch.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn

from rl.networks.description import NetworkDescription
from rl.networks.inputs import CategoricalInput, NetworkError, NumericInput
from rl.networks.network import Network, evaluating
from rl.networks.readers import tensor_form

TOLERANCE = 1e-4
_CHECKED_ROWS = (1, 2, 3, 17, 256)


def export_onnx(network: Network, path: Path, seed: int = 0) -> float:
    """Write a network as one ONNX file and return the largest difference to torch that was found.

    The graph takes every input and gives every output by its name, for any number of rows; outputs are as the
    network's forward gives them. Nothing is written unless onnxruntime computes from random inputs what torch does.

    Args:
        network: in training or evaluation mode; exported without dropout.
        path: of the file, whose folder exists.
        seed: of the random inputs.

    Raises:
        NetworkError: an output differs by more than 1e-4 (of its size, where that is above 1).
    """
    names, outputs = list(network.description.inputs), list(network.description.outputs)
    rng = np.random.default_rng(seed)
    example = random_inputs(network.description, 3, rng)
    batch = torch.export.Dim("batch")
    with evaluating(network), _quiet():
        program = torch.onnx.export(
            _Positional(network, names).eval(),
            tuple(example[name] for name in names),
            input_names=names,
            output_names=outputs,
            dynamic_shapes=(tuple({0: batch} for _ in names),),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    blob = program.model_proto.SerializeToString()
    difference = _difference(network, blob, rng)
    new = path.with_name(path.name + ".new")
    new.write_bytes(blob)
    new.rename(path)
    return difference


class _Positional(nn.Module):
    """A network that takes and gives tensors in the order of its description: ONNX has no dictionaries."""

    def __init__(self, network: Network, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(dict(zip(self.names, tensors, strict=True))).values())


def _difference(network: Network, blob: bytes, rng: np.random.Generator) -> float:
    """Return the largest difference between torch and an ONNX graph on random inputs."""
    session = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])
    largest = 0.0
    for rows in _CHECKED_ROWS:
        inputs = random_inputs(network.description, rows, rng)
        with evaluating(network), torch.no_grad():
            wanted = network(inputs)
        given = session.run(list(wanted), {name: tensor.numpy() for name, tensor in inputs.items()})
        for (name, tensor), got in zip(wanted.items(), given, strict=True):
            expected = tensor.numpy()
            if got.shape != expected.shape:
                raise NetworkError(f"output {name!r} of the ONNX graph is {got.shape}, torch's is {expected.shape}")
            difference = float((np.abs(got - expected) / np.maximum(np.abs(expected), 1.0)).max())
            if not difference <= TOLERANCE:  # which NaN is not either
                raise NetworkError(
                    f"output {name!r} of the ONNX graph differs from torch's by {difference:.2g} on {rows} random rows,"
                    f" more than {TOLERANCE}; nothing was written"
                )
            largest = max(largest, difference)
    return largest


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its libraries' warnings off the terminal; errors are raised as ever."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
