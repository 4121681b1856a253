"""CSV: no row vanishes, whatever the quotes; encodings, delimiters and headers as they are declared."""

import csv
import io
import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import UnreadableError
from data.ingest import csv_blocks
from data.ingest.csv_blocks import Rows, read_names, read_rows
from data.nodes.dialect import Csv


def rows(data: bytes, names: str = "abc", **dialect: object) -> tuple[list[tuple[str | None, ...]], dict[int, str]]:
    """The rows that could be parsed, and the others by position; positions must be all from 0 on."""
    parts: list[Rows] = list(read_rows(pa.BufferReader(data), Csv.model_validate(dialect), list(names)))
    good = [tuple(row.values()) for part in parts for row in part.table.to_pylist()]
    at = [int(position) for part in parts for position in part.positions]
    other = {position: text for part in parts for position, text in part.malformed}
    other |= {at[n]: bad for n, bad in enumerate(b for p in parts for b in p.undecoded.to_pylist()) if bad is not None}
    assert sorted({*at, *other}) == list(range(len({*at, *other})))
    return good, other


@pytest.fixture(params=[None, 64, 7])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that hold the whole file, and those that hold only some of it."""
    if request.param:
        monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_values_are_those_of_the_standard_librarys_parser(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    words = ["x", "", "two words", 'the "big" one', "a,b", f"two{end}lines", f"{end}", '"', 'ends with "', "é€"]
    table = [[rng.choice(words) for _ in range(3)] for _ in range(200)]
    table = [[*row[:2], row[2] or "not empty"] for row in table]  # csv and Arrow differ on lines without values
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end).writerows([["a", "b", "c"], *table])
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", max(csv_blocks.BLOCK_BYTES, 64))
    found, other = rows(text.getvalue().encode())
    assert found == [tuple(value or None for value in row) for row in table]
    assert other == {}


def test_a_quote_that_is_never_closed_is_one_row() -> None:
    lines = [f"{n},x,y\n" for n in range(200)]
    lines[7] = '7,"x,y\n'
    found, other = rows(b"a,b,c\n" + "".join(lines).encode())
    assert [row[0] for row in found] == [str(n) for n in range(200) if n != 7]
    assert other == {7: '7,"x,y'}


def test_a_stray_quote_does_not_reach_the_next_one() -> None:
    """In the first pair the value would end in the wrong place, in the second it would be too long."""
    for lines, stray in (
        (['0,"x,y', '1,"x",y', "2,x,y"], 0),
        (["0,x,y", '1,"x,y', *(f"{n},x,y" for n in range(2, 40)), '40,x",y', "41,x,y"], 1),
    ):
        found, other = rows(b"a,b,c\n" + "\n".join(lines).encode())
        assert [row[0] for row in found] == [str(n) for n in range(len(lines)) if n != stray]
        assert other == {stray: lines[stray]}


def test_how_long_a_quoted_value_may_be_is_declared() -> None:
    text = 'a,b,c\n0,"{}",y\n1,x,y\n'
    twenty, more = (text.format("\n".join(["line"] * lines)).encode() for lines in (20, 21))
    assert rows(twenty)[1] == {}
    assert rows(more)[1][0] == '0,"line'
    assert rows(more, max_value_lines=21)[1] == {}
    at_most, longer = (text.format("x" * size).encode() for size in (65_536, 65_537))
    assert rows(at_most)[1] == {}
    assert list(rows(longer)[1]) == [0]
    assert rows(longer, max_value_bytes=65_537)[1] == {}
    assert rows(b'a,b,c\n0,"x\ny",z\n', max_value_lines=1)[1] == {0: '0,"x', 1: 'y",z'}


@pytest.mark.heavy
@settings(deadline=None)
@given(
    st.lists(st.lists(st.text(alphabet='x",\n é', max_size=4), min_size=1, max_size=5).map(",".join), max_size=30),
    st.sampled_from([7, 50, 1 << 20]),
)
def test_every_line_is_in_a_row_whatever_the_quotes(lines: list[str], block: int) -> None:
    data = ("a,b\n" + "\n".join(lines)).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "BLOCK_BYTES", max(block, max(map(len, data.splitlines()))))
        found, other = rows(data, "ab")
    assert rows(data, "ab") == (found, other)
    # A value has at most 20 lines, so that every row's lines can be told from its values and its text.
    breaks = sum((value or "").count("\n") for row in found for value in row)
    body = data.split(b"\n", 1)[1].splitlines()
    empty = sum(not line for line in body)
    covered = len(found) + breaks + sum(text.count("\n") + 1 for text in other.values())
    assert len(body) - empty <= covered <= len(body)


@pytest.mark.usefixtures("block_bytes")
def test_rows_with_too_few_or_too_many_values_are_malformed() -> None:
    assert rows(b"a,b,c\n\n1,2\n1,2,3\n\n1,2,3,4\n3,2,1\n") == (
        [("1", "2", "3"), ("3", "2", "1")],
        {0: "1,2", 2: "1,2,3,4"},
    )


def test_what_is_not_in_the_encoding_is_one_rows_fault(capfd: pytest.CaptureFixture[str]) -> None:
    data = b'a,b,c\n1,caf\xe9,x\n2,"caf\xe9\nbar",x\n3,x\n4,caf\xe9\n5,x,\xff\n6,\xc3\xa9,x\n'
    found, other = rows(data)
    assert found[-1] == ("6", "é", "x")
    assert other == {0: "caf\\xe9", 1: "caf\\xe9\nbar", 2: "3,x", 3: "4,caf\\xe9", 4: "\\xff"}
    assert rows(b"a,b,c\n1,\x81,x\n2,\x80,x\n", encoding="cp1252") == (
        [("1", "\\x81", "x"), ("2", "€", "x")],
        {0: "\\x81"},
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize(
    ("encoding", "dialect"),
    [
        ("utf-8", {}),
        ("utf-8-sig", {}),
        ("utf-16", {}),
        ("utf-32", {}),
        ("utf-16", {"encoding": "latin-1"}),  # a byte order mark goes before the declaration
        ("utf-16-le", {"encoding": "utf-16-le"}),
        ("latin-1", {"encoding": "latin-1"}),
        ("cp1252", {"encoding": "cp1252"}),
        ("shift_jis", {"encoding": "shift_jis"}),
    ],
)
def test_encodings(encoding: str, dialect: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    word = {"shift_jis": "\u30bd\u8868"}.get(encoding, "caf\xe9")  # the latter's bytes have a backslash among them
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", max(csv_blocks.BLOCK_BYTES, 16))
    data = f'a,b,c\n1,{word},"x"\n2,{word},y\n'.encode(encoding)
    assert rows(data, **dialect) == ([("1", word, "x"), ("2", word, "y")], {})


def test_other_delimiters_and_quotes() -> None:
    assert rows(b"a\tb\tc\n1\t2\t3,4\n", delimiter="\t") == ([("1", "2", "3,4")], {})
    assert rows(b"1::2::3\n1::2\n", delimiter="::", quote="", header=("a", "b", "c")) == (
        [("1", "2", "3")],
        {1: "1::2"},
    )
    assert rows(b"a,b,c\n1,'2,5',3\n1,\"2,3\n", quote="'") == ([("1", "2,5", "3"), ("1", '"2', "3")], {})
    assert rows(b'a,b,c\n1,"2,3\n', quote="") == ([("1", '"2', "3")], {})
    assert rows(b"a, b, c\n1, 2, 3 \n", trim=True) == ([("1", "2", "3")], {})


def test_headers() -> None:
    def names(data: bytes, **dialect: object) -> list[str] | None:
        return read_names(pa.BufferReader(data), Csv.model_validate(dialect))

    assert names(b"") is names(b"\n\r\n") is None
    assert names(b'\n"a ""big"" one",b,"c,d"\n') == ['a "big" one', "b", "c,d"]
    assert names(b"1,2,3\n", header=("a", "b", "c")) == ["a", "b", "c"]
    assert rows(b"1,2,3\n", header=("a", "b", "c")) == ([("1", "2", "3")], {})
    assert rows(b"a,b,c\n1,2,3\n", header=("a", "b", "c")) == ([("1", "2", "3")], {})  # it is there all the same
    # A bad first row is one row's fault; if none has as many values as there are names, it is the declaration's.
    for first in ("1,2", '1,"2,3', "1,2,3,4"):
        assert rows(f"{first}\n1,2,3\n".encode(), header=("a", "b", "c")) == ([("1", "2", "3")], {0: first})
    with pytest.raises(UnreadableError, match=r"first line has 2 values, header in \[csv\] of the node names 3"):
        names(b"1,2\n", header=("a", "b", "c"))
    with pytest.raises(UnreadableError, match=r"header is not utf-8: 'Gr\\\\xf6\\\\xdfe,b'; name its encoding"):
        names(b"Gr\xf6\xdfe,b\n1,2\n")
    with pytest.raises(UnreadableError, match="quotes of its first line do not close"):
        names(b'a,"b\n1,2\n')


def test_a_file_whose_lines_do_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_blocks, "BLOCK_BYTES", 1 << 20)
    with pytest.raises(UnreadableError, match="a line is longer than 1 MiB"):
        rows(b"a,b,c\n" + b"x" * (3 << 20))
