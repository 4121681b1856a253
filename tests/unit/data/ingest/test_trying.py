"""A file that is tried: the same checks as of an ingestion, counted, with examples, and nothing left behind."""

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from data.errors import DataError
from data.ingest.trying import try_file
from data.nodes.node import NodeSpec
from tests.support.nodes import declared

NODE = """
name = "tills"
[[columns]]
name = "receipt"
type = "string"
role = "key"
missing = "reject"
[[columns]]
name = "pieces"
type = "int"
missing = "reject"
[[columns]]
name = "shop"
type = "string"
missing = "drop"
[[rules]]
name = "pieces > 0"
column = "pieces"
gt = 0
"""
CSV = b"receipt,pieces,shop\nr1,2,A\nr2,-1,A\nr3,many,A\n,1,A\nr5,3,\nr1,2,B\nr7,1,A\n"


@pytest.fixture
def node(tmp_path: Path) -> NodeSpec:
    return declared(tmp_path, NODE)


def as_jsonl() -> bytes:
    rows = (line.split(",") for line in CSV.decode().splitlines()[1:])
    return "\n".join(json.dumps(dict(zip(("receipt", "pieces", "shop"), row, strict=True))) for row in rows).encode()


def as_parquet() -> bytes:
    rows = [[value or None for value in line.split(",")] for line in CSV.decode().splitlines()]
    file = io.BytesIO()
    pq.write_table(pa.table(dict(zip(rows[0], map(list, zip(*rows[1:], strict=True)), strict=True))), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tills.csv", CSV),
        ("tills.csv.gz", gzip.compress(CSV, mtime=0)),
        ("tills.jsonl", as_jsonl()),
        ("tills.parquet", as_parquet()),
    ],
)
def test_every_row_is_accounted_for_with_the_first_rule_it_breaks(node: NodeSpec, name: str, content: bytes) -> None:
    tried = try_file(content, name, node)
    assert (tried.read, tried.accepted, tried.duplicates, tried.whole) == (7, 3, 1, True)
    assert tried.rejected == {"type of pieces": 1, "receipt present": 1, "pieces > 0": 1}
    assert tried.dropped == {"shop": 1}
    found = [(one.row, one.rule, one.column, one.value) for one in tried.rejects]
    missing = "" if "jsonl" in name else None  # as it was read
    assert found == [
        (1, "pieces > 0", "pieces", "-1"),
        (2, "type of pieces", "pieces", "many"),
        (3, "receipt present", "receipt", missing),
    ]
    assert tried.rejects[0].record == {"receipt": "r2", "pieces": "-1", "shop": "A"}


def test_nothing_is_left_of_it(node: NodeSpec) -> None:
    try_file(CSV, "tills.csv", node)
    with pytest.raises(DataError):
        try_file(b"a,b\n", "tills.csv", node)
    assert MemoryFileSystem.store == {}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "tills.csv",
            b"receipt,shop\nr1,A\n",
            "tills.csv lacks column 'pieces' of node tills; it has 'receipt', 'shop'",
        ),
        ("tills.xls", CSV, "cannot tell the format of tills.xls: expected the extension"),
        ("tills.parquet", b"no parquet", "cannot read tills.parquet as parquet"),
        ("a/b.csv", b"x\n", "a_b.csv lacks columns"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_its_name(
    node: NodeSpec, name: str, content: bytes, says: str
) -> None:
    with pytest.raises(DataError) as caught:
        try_file(content, name, node)
    assert str(caught.value).startswith(says)
    assert "memory" not in str(caught.value)


def test_of_a_long_file_the_beginning_is_tried(node: NodeSpec) -> None:
    lines = "".join(f"r{number},{number % 2},A\n" for number in range(1_000))
    tried = try_file(f"receipt,pieces,shop\n{lines}".encode(), "tills.csv", node, most_rows=100)
    assert (tried.read, tried.accepted, tried.whole) == (100, 50, False)
    assert [one.row for one in tried.rejects] == [0, 2, 4, 6, 8]  # five of a rule
    whole = try_file(f"receipt,pieces,shop\n{lines}".encode(), "tills.csv", node, most_rows=1_000)
    assert (whole.read, whole.whole) == (1_000, True)


def test_a_file_without_rows_has_none(node: NodeSpec) -> None:
    tried = try_file(b"receipt,pieces,shop\n", "tills.csv", node)
    assert (tried.read, tried.rejected, tried.whole) == (0, {}, True)
