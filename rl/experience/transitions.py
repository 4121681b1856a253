"""The transitions table: Parquet, one row a transition, columns as the learners read them.

Columns: `items` [A], `mask` [A], and where there are any `history` [T, 3] and `features` [A or 1, F] of what the policy
saw (see `rl.policy.queries.Query`); `actions` [K], positions on the candidate axis; `propensities` [K], in (0, 1];
`rewards`; maybe `weights`, and `chosen` of slates (see `rl.experience.checks`). Where rewards have a future also
`discounts` in [0, 1], and the next observation as `next_items` and so on.
Arrays are (nested) fixed-size lists, so the table's own schema has every shape, and anything that reads Parquet reads
it. `rl.algorithms.batch.to_columns` makes such columns of what a runner has sampled.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import ray.data

from data.cluster import quiet_ray_data
from data.errors import DataError
from rl.experience.checks import (
    NEXT,
    SEEN,
    Columns,
    check,
    check_names,
    check_shapes,
    list_needed,
)
from rl.policy.queries import ITEM
from rl.simulators.spaces import SlateSpace

_N_ITEMS = b"raycommend.n_items"


@dataclass(frozen=True)
class Table:
    """A transitions table that has been checked."""

    path: str
    rows: int
    n_items: int
    """Items have the ids 1 to this."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of one row of each column that learning needs."""

    @property
    def observation_space(self) -> gym.spaces.Dict:
        """What the policy saw."""
        shapes = {name: self.shapes[name] for name in SEEN if name in self.shapes}
        spaces: dict[str, gym.Space[Any]] = {
            name: gym.spaces.Box(-np.inf, np.inf, shape, np.float32) for name, shape in shapes.items()
        }
        spaces["items"] = gym.spaces.Box(0, self.n_items, shapes["items"], np.int32)
        spaces["mask"] = gym.spaces.MultiBinary(shapes["mask"][0])
        if "history" in shapes:
            spaces["history"] = gym.spaces.Box(0, np.iinfo(np.int32).max, shapes["history"], np.int32)
        return gym.spaces.Dict(spaces)

    @property
    def action_space(self) -> gym.Space[Any]:
        """Positions on the candidate axis, of one item or of a slate."""
        candidates, (slots,) = self.shapes["items"][0], self.shapes["actions"]
        return gym.spaces.Discrete(candidates) if slots == 1 else SlateSpace(candidates, slots)


def write(path: str, columns: Columns, n_items: int | None = None) -> None:
    """Write transitions as one Parquet file; a folder of several is one table too.

    Args:
        path: of the file; an URI that pyarrow knows will do.
        columns: [N, ...] each.
        n_items: size of the catalogue; by default the largest id there is.

    Raises:
        DataError: a column is missing, of another shape, or holds what no transition can have.
    """
    check_names(columns.keys(), path)
    check_shapes({name: columns[name].shape[1:] for name in list_needed(columns)}, path)
    check([columns], path)
    schema = pa.schema([(name, _type(column)) for name, column in columns.items()])
    schema = schema.with_metadata({_N_ITEMS: str(n_items or _largest(columns))})
    arrays = [_to_arrow(column) for column in columns.values()]
    pa.parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def describe(path: str, rows_at_once: int = 20_000) -> Table:
    """Open a table, a file or a folder of them, and check every row of it; memory does not grow with its length.

    Raises:
        DataError: it cannot be read, a column is missing or of another shape, or a row cannot be learned from.
    """
    try:
        dataset = pa.dataset.dataset(path, format="parquet")
        schemas = [fragment.physical_schema for fragment in dataset.get_fragments()]
        if not schemas or not (rows := dataset.count_rows()):
            raise DataError(f"{path} has no transitions")
        shapes = _shapes(schemas, path)
        largest = [int((schema.metadata or {}).get(_N_ITEMS, 0)) for schema in schemas]

        def parts() -> Iterator[Columns]:
            for batch in dataset.to_batches(columns=list(shapes), batch_size=rows_at_once):
                columns = to_numpy(pa.Table.from_batches([batch]))
                largest.append(_largest(columns))
                yield columns

        check(parts(), path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as a table of transitions: {error}") from error
    return Table(path, rows, max(largest), shapes)


def read_dataset(table: Table, materialize: bool = False) -> ray.data.Dataset:
    """Return the columns that learning needs as a Ray dataset.

    Args:
        table: where it is.
        materialize: decode it once and keep it in Ray's object store (which spills to disk), instead of at each pass.
    """
    with quiet_ray_data():
        dataset = ray.data.read_parquet(table.path).select_columns(list(table.shapes))
        dataset.context.execution_options.preserve_order = True  # so that a seed gives the same batches again
        return dataset.materialize() if materialize else dataset


def batches(dataset: ray.data.Dataset, size: int, shuffled: int, seed: int) -> Iterator[Columns]:
    """Pass over a dataset once; the last batch may be smaller.

    Args:
        dataset: see `read_dataset`.
        size: rows of a batch.
        shuffled: rows of the buffer that batches are drawn from at random.
        seed: of the draws.
    """
    options: dict[str, Any] = {"local_shuffle_buffer_size": max(shuffled, size), "local_shuffle_seed": seed}
    with quiet_ray_data():
        for batch in dataset.iter_batches(batch_size=size, batch_format="pyarrow", **options):
            yield to_numpy(batch)


def _largest(columns: Columns) -> int:
    """Return the largest item id."""
    ids = [columns[name] for name in ("items", NEXT + "items") if name in columns]
    ids += [columns[name][:, :, ITEM] for name in ("history", NEXT + "history") if name in columns]
    return max(int(array.max(initial=0)) for array in ids)


def _type(column: np.ndarray) -> pa.DataType:
    of_row = pa.from_numpy_dtype(column.dtype)
    for size in reversed(column.shape[1:]):
        of_row = pa.list_(of_row, size)
    return of_row


def _to_arrow(column: np.ndarray) -> pa.Array:
    array = pa.array(column.reshape(-1))
    for size in reversed(column.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def to_numpy(table: pa.Table) -> Columns:
    """Return a table's columns as arrays [N, ...].

    Raises:
        DataError: a column has nulls.
    """
    columns = {}
    for name, chunked in zip(table.column_names, table.columns, strict=True):
        shape, array = [len(chunked)], chunked.combine_chunks()
        nulls = array.null_count
        while pa.types.is_fixed_size_list(array.type):
            shape.append(array.type.list_size)
            array = array.flatten()  # unlike `values` of this slice only
            nulls += array.null_count
        if nulls:
            raise DataError(f"column {name} has {nulls} nulls; every transition needs a value")
        column = array.to_numpy(zero_copy_only=False).reshape(shape)
        columns[name] = column if column.flags.writeable else column.copy()  # torch shares only what it may write to
    return columns


def _shapes(schemas: Sequence[pa.Schema], path: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of one row of each column that learning needs, given the schemas of all files.

    Raises:
        DataError: a column is missing or has no or another shape, or the files differ.
    """
    schema = schemas[0]
    check_names(schema.names, path)
    if (other := next((s for s in schemas if not s.equals(schema)), None)) is not None:
        raise DataError(f"the files of {path} differ: one has the columns {_text(schema)}, another {_text(other)}")
    shapes = {}
    for name in list_needed(schema.names):
        shape, of = [], schema.field(name).type
        while pa.types.is_fixed_size_list(of):
            shape.append(of.list_size)
            of = of.value_type
        if not (pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_boolean(of)):
            found = schema.field(name).type
            raise DataError(f"{path}: column {name} is {found}, needed are numbers or fixed-size lists of them")
        shapes[name] = tuple(shape)
    check_shapes(shapes, path)
    return shapes


def _text(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
