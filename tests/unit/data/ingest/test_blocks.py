"""Blocks as values of a dataset: what goes in comes out, whole."""

import pyarrow as pa
import pytest

from data.ingest.blocks import each, pack, unpack, unpack_array

TABLE = pa.table(
    {
        "number": pa.array([1, None, 3]),
        "text": pa.array(["a", "b", None]).dictionary_encode(),
        "parts": pa.array([{"x": 1, "y": "p"}, None, {"x": None, "y": "q"}]),
    }
)


def test_tables_and_arrays_come_out_as_they_went_in() -> None:
    row = pack(name="block", count=3, table=TABLE, array=pa.array([7, 8]), nothing=None)
    assert row.num_rows == 1
    assert (row["name"][0].as_py(), row["count"][0].as_py(), row["nothing"][0].as_py()) == ("block", 3, None)
    assert unpack(row, "table").equals(TABLE)
    assert unpack_array(row, "array").to_pylist() == [7, 8]


def test_nothing_is_copied() -> None:
    out = unpack(pack(table=TABLE), "table")
    assert out["number"].chunk(0).buffers()[1].address == TABLE["number"].chunk(0).buffers()[1].address


@pytest.mark.parametrize("rows", [TABLE.slice(0, 0), TABLE.slice(1, 1), pa.concat_tables([TABLE, TABLE.slice(2)])])
def test_empty_cut_and_joined_tables(rows: pa.Table) -> None:
    assert unpack(pack(table=rows), "table").to_pylist() == rows.to_pylist()


def test_rows_of_a_batch_stay_apart() -> None:
    batch = pa.concat_tables([pack(name=str(n), table=TABLE.slice(n)) for n in range(3)])
    for joined in (batch, batch.combine_chunks()):
        found = [(row["name"][0].as_py(), unpack(row, "table").to_pylist()) for row in each(joined)]
        assert found == [(str(n), TABLE.slice(n).to_pylist()) for n in range(3)]
