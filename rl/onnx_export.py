"""A torch module as an ONNX model, and how far it is from torch."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn

from data.errors import RecommenderError

TOLERANCE = 1e-4
OPSET = 18
"""Operators that a model uses unless others are asked for; with them go IR version 8 and ONNX Runtime 1.14 or later."""
OPSETS = range(18, 23)
"""What may be asked for: below, the exporter has no operators; above, ONNX Runtime 1.31 refuses its attention."""

Tensors = Mapping[str, Tensor]


def to_onnx_bytes(
    module: nn.Module,
    example: Tensors,
    outputs: Sequence[str],
    dynamic: Mapping[str, dict[int, Any]],
    opset: int = OPSET,
) -> bytes:
    """Return a module as an ONNX model, of the lowest IR version that its operators allow: so most runtimes take it.

    Args:
        module: takes tensors by position, as ONNX has no dictionaries, and returns a tuple of tensors.
        example: its inputs by name, in order.
        outputs: names of what it returns.
        dynamic: for each input its axes that may have any length, with their `torch.export.Dim`.
        opset: version of ONNX's operators, one of `OPSETS`.

    Raises:
        ValueError: it is none of them.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset must be between {OPSETS[0]} and {OPSETS[-1]}, got {opset}")
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(example.values()),
            input_names=list(example),
            output_names=list(outputs),
            dynamic_shapes=(tuple(dynamic[name] for name in example),),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    onnx.checker.check_model(model)
    blob: bytes = model.SerializeToString()
    return blob


def largest_difference(blob: bytes, cases: Iterable[tuple[Tensors, Tensors]], error: type[RecommenderError]) -> float:
    """Return the largest difference between onnxruntime's outputs and torch's, relative where these are above 1.

    Args:
        blob: the model.
        cases: inputs, and what torch computes of them, by name.
        error: what is raised.

    Raises:
        error: a difference is more than 1e-4, or an output has another shape.
    """
    session = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])
    largest = 0.0
    for inputs, wanted in cases:
        given = session.run(list(wanted), {name: tensor.numpy() for name, tensor in inputs.items()})
        for (name, tensor), got in zip(wanted.items(), given, strict=True):
            expected = tensor.numpy()
            if got.shape != expected.shape:
                raise error(f"output {name!r} of the ONNX graph is {got.shape}, torch's is {expected.shape}")
            difference = float((np.abs(got - expected) / np.maximum(np.abs(expected), 1.0)).max())
            if not difference <= TOLERANCE:  # which NaN is not either
                raise error(
                    f"output {name!r} of the ONNX graph differs from torch's by {difference:.2g} on {len(expected)}"
                    f" random rows, more than {TOLERANCE}; nothing was written"
                )
            largest = max(largest, difference)
    return largest


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
