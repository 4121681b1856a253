"""Blocks of rows as values of a Ray Data dataset: one row of the dataset is a whole block and what is known about it.

Ray Data cuts and joins rows as it sees fit between stages. A block that is one value stays whole, so that it can be
named by where it begins, and goes from stage to stage without a copy.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa


def pack(**values: Any) -> pa.Table:
    """Return one row: tables and arrays as lists of their rows, not copied unless they have several chunks."""
    return pa.table({name: _pack_value(value) for name, value in values.items()})


def each(batch: pa.Table) -> Iterator[pa.Table]:
    """Yield the rows of a batch as tables of one row."""
    for index in range(batch.num_rows):
        yield batch.slice(index, 1)


def unpack(row: pa.Table, name: str) -> pa.Table:
    """Return a table that was packed into a row."""
    return pa.Table.from_batches([pa.RecordBatch.from_struct_array(unpack_array(row, name))])


def unpack_array(row: pa.Table, name: str) -> pa.Array:
    """Return an array that was packed into a row."""
    return row[name].chunk(0).flatten()


def _pack_value(value: Any) -> pa.Array:
    if isinstance(value, pa.Table):
        columns = [_one_chunk(column) for column in value.columns]
        value = pa.StructArray.from_arrays(columns, fields=list(value.schema))
    if isinstance(value, pa.Array):
        return pa.ListArray.from_arrays(pa.array([0, len(value)], pa.int32()), value)
    return pa.array([value])


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
