"""From records to tensors: the one place where raw values become ids and numbers.

A column has the name of the input or output that reads it. None and NaN are missing values. What NumPy holds and
decimals are read as Python's own numbers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.networks.description.description import NetworkDescription
from rl.networks.description.inputs import NetworkError
from rl.networks.description.nodes import ClassOutput, QOutput
from rl.networks.encoding.values import (
    action_reader,
    plain,
    target_reader,
    value_reader,
)
from rl.networks.module.losses import action_name
from rl.networks.module.readers import tensor_form

Records: TypeAlias = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any] | NDArray[Any]] | pd.DataFrame | pa.Table
"""Rows as dictionaries, a dictionary of columns, or a table."""


def encode_inputs(description: NetworkDescription, records: Records) -> dict[str, Tensor]:
    """Return the tensor of every input.

    An integer is an id itself; a string is looked up among the table's known values, or hashed where it has none. An
    unknown or missing value has id 0, which also fills what is left of a list.

    Raises:
        NetworkError: a column is missing, or a value is not what its input takes; names column and row.
    """
    tensors = dict[str, Tensor]()
    for name, node in description.inputs.items():
        rows = _encode_column(records, name, value_reader(node, description.embeddings))
        shape, dtype = tensor_form(node)
        tensors[name] = torch.tensor(rows, dtype=dtype).reshape(len(rows), *shape)
    return tensors


def encode_targets(description: NetworkDescription, records: Records) -> dict[str, Tensor]:
    """Return what every output should give: float32 [B], or int64 [B] of classes; missing is NaN, or -1 for a class.

    A Q output `buy` reads a value from column `buy`, and from column `buy.action` the action that earned it, int64 [B].

    Raises:
        NetworkError: a column is missing, or a value is not what its output gives; names column and row.
    """
    targets = dict[str, Tensor]()
    for name, output in description.outputs.items():
        dtype = torch.int64 if isinstance(output, ClassOutput) else torch.float32
        targets[name] = torch.tensor(_encode_column(records, name, target_reader(output)), dtype=dtype)
        if isinstance(output, QOutput):
            taken = _encode_column(records, action_name(name), action_reader(output))
            targets[action_name(name)] = torch.tensor(taken, dtype=torch.int64)
    return targets


def _encode_column(records: Records, name: str, encode: Callable[[Any], Any]) -> list[Any]:
    """Encode the values of one column."""
    encoded = []
    for row, value in enumerate(_column(records, name)):
        try:
            encoded.append(encode(plain(value)))
        except NetworkError as error:
            raise NetworkError(f"column {name!r}, row {row}: {error}") from error
    return encoded


def _column(records: Records, name: str) -> list[Any]:
    names, rows = _form(records)
    if rows == 0:
        return []
    if name not in names:
        raise NetworkError(f"the records have no column {name!r}; they have: {', '.join(map(str, names)) or 'none'}")
    if isinstance(records, pa.Table):
        return list(records[name].to_pylist())
    return list(records[name]) if isinstance(records, Mapping | pd.DataFrame) else [row.get(name) for row in records]


def _form(records: Records) -> tuple[list[str], int]:
    """Return the names of the columns, and how many rows there are."""
    if isinstance(records, pd.DataFrame | pa.Table):
        return list(records.columns if isinstance(records, pd.DataFrame) else records.column_names), len(records)
    if not isinstance(records, Mapping):
        return list({key: None for record in records for key in record}), len(records)
    for name, column in records.items():
        if isinstance(column, str) or not isinstance(column, Iterable):
            raise NetworkError(
                f"column {name!r} needs a list, got {column!r}; a single record is a list of one dictionary"
            )
    lengths = {name: len(list(column)) for name, column in records.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise NetworkError(f"columns must be of one length, got {said}")
    return list(records), max(lengths.values(), default=0)
