"""Ingestion through Ray Data: formats, inputs, rejects, reruns, kills, and the real data's exact numbers."""

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

import data.ingest.run
from data.archive.parquet import Archive, read_events
from data.errors import DataError
from data.ingest.run import Summary, ingest, main
from data.nodes.node import NodeSpec, load_node
from tests.support.modes import open_to_others
from tests.support.nodes import FAULTS

NODE = load_node("online_retail")
HEADERS = [column.header for column in NODE.columns]
REPOSITORY = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("RAYCOMMEND_TEST_DATA", REPOSITORY / "../shared/data"))
REAL = FOLDER / "online-retail" / "online_retail.parquet"

pytestmark = pytest.mark.usefixtures("ray_local")


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Good rows that differ."""
    rng = random.Random(seed)
    return [
        {
            "InvoiceNo": f"{seed}-{number}",
            "StockCode": f"{rng.randrange(10000, 99999)}A",
            "Description": rng.choice(["MUG, RED", 'THE "BIG" BOX', "TWO\nLINES", "TÉ", None]),
            "Quantity": rng.randrange(1, 50),
            "InvoiceDate": f"2011-03-{rng.randrange(1, 28):02d} 10:{rng.randrange(60):02d}:00",
            "UnitPrice": rng.randrange(1, 999) / 100,
            "CustomerID": rng.randrange(12000, 12100),
            "Country": "France",
        }
        for number in range(count)
    ]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """Write records in the format of the path's extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(records)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=100)
    elif path.suffix == ".csv":
        pacsv.write_csv(table, path)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_archive_is_its_owners_alone_whoever_started_ray(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "a.csv", rows(50))
    assert main(["--node", "online_retail", str(path), "--archive", str(tmp_path / "archive")]) == 0
    assert files(tmp_path / "archive")
    assert open_to_others(tmp_path / "archive") == []


def tables(archive: Path, node: NodeSpec = NODE) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The archive's events and rejects, sorted."""
    events = read_events(str(archive), node).to_table().sort_by("event_id").to_pylist()
    return events, Archive.at(str(archive)).dataset("rejects", node).to_table().sort_by("reject_id").to_pylist()


def files(archive: Path) -> list[Path]:
    return [path for path in archive.rglob("*") if path.is_file() and "_locks" not in path.parts]


@pytest.mark.slow
@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_each_format_gives_the_same_events(tmp_path: Path, extension: str) -> None:
    records = rows(250)
    expected = ingest([str(write(tmp_path / "a.jsonl", records))], NODE, str(tmp_path / "expected"))
    path = write(tmp_path / f"b.{extension}", records)
    summary = ingest([str(path)], NODE, str(tmp_path / "archive"))
    assert (summary.read, summary.events, summary.rejects, summary.duplicates) == (250, 250, 0, 0)
    assert summary.sessions == 250
    assert summary.users == expected.users == len({record["CustomerID"] for record in records})
    assert tables(tmp_path / "archive") == tables(tmp_path / "expected")


def test_the_stored_table_is_what_the_declaration_says(tmp_path: Path) -> None:
    records = [record | {"Quantity": quantity} for record, quantity in zip(rows(2), (2, 4), strict=True)]
    ingest([str(write(tmp_path / "a.csv", records))], NODE, str(tmp_path / "archive"))
    table = read_events(str(tmp_path / "archive"), NODE).to_table()
    assert {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)} == {
        "event_id": "string",
        "user_id": "string",
        "item_id": "string",
        "time": "timestamp[us, tz=UTC]",
        "outcome": "double",
        "session": "string",
        "description": "string",
        "unit_price": "double",
        "country": "string",
        "outcome_scaled": "double",
        "unit_price_scaled": "double",
        "scaler_version": "int32",
        "node_id": "string",
    }
    assert sorted(table["outcome_scaled"].to_pylist()) == [-1.0, 1.0]  # 2 and 4: mean 3, standard deviation 1
    assert table["node_id"].to_pylist() == ["online_retail"] * 2


def test_globs_directories_and_uris(tmp_path: Path) -> None:
    whole = tmp_path / "in"
    write(whole / "2011" / "a.csv", rows(10, 1))
    write(whole / "2011" / "b.csv", rows(20, 2))
    write(whole / "2012" / "c.parquet", rows(30, 3))
    write(whole / "2012" / "_hidden.csv", rows(40, 4))
    (whole / "README.txt").write_text("not data")

    def events(number: int, *paths: str, **options: Any) -> int:
        return ingest(paths, NODE, str(tmp_path / f"archive{number}"), **options).events

    assert events(1, str(whole)) == 60
    assert events(2, str(whole / "*" / "?.csv")) == 30
    assert events(3, str(whole / "**" / "*.parquet")) == 30
    assert events(4, f"file://{whole}/2011", f"file://{whole}/2011/a.csv") == 30
    assert events(5, f"file://{whole}/*/[ac].*") == 40
    assert events(6, "2011", filesystem=SubTreeFileSystem(str(whole), LocalFileSystem())) == 30
    assert ingest([str(whole)], NODE, f"file://{tmp_path}/archive7").events == 60
    assert tables(tmp_path / "archive7") == tables(tmp_path / "archive1")


def test_a_bad_row_is_kept_and_the_others_go_on(tmp_path: Path) -> None:
    good = write(tmp_path / "a.csv", rows(3)).read_bytes().splitlines(keepends=True)
    header, body = good[0], b"".join(good[1:])
    text = '"9","85123A","X",{},2011-03-01 10:00:00,{},{},"France"\n'
    bad = text.format(5, 1.5, "") + text.format("six", 1.5, 12001) + '"9","85123A"\n' + text.format(5, -1.5, 12001)
    (tmp_path / "a.csv").write_bytes(header + body + bad.encode() + text.format(5, 1, 7).replace("X", "\t").encode())
    (tmp_path / "b.csv").write_bytes(header + text.format(5, 1.5, 12001).encode().replace(b"X", b"caf\xe9"))
    summary = ingest([str(tmp_path)], NODE, str(tmp_path / "archive"))
    assert summary.read == 9
    assert summary.events == 4
    assert summary.rejected == {
        "malformed row": 2,
        "type of quantity": 1,
        "customer present": 1,
        "unit price > 0": 1,
    }
    found = {
        (Path(reject["source"]).name, reject["row"], reject["rule"], reject["column"], reject["value"])
        for reject in tables(tmp_path / "archive")[1]
    }
    assert found == {
        ("a.csv", 3, "customer present", "customer", None),
        ("a.csv", 4, "type of quantity", "quantity", "six"),
        ("a.csv", 5, "malformed row", None, '"9","85123A"'),
        ("a.csv", 6, "unit price > 0", "unit_price", "-1.5"),
        ("b.csv", 0, "malformed row", None, "caf\\xe9"),
    }


def test_a_stray_quote_costs_one_row_and_the_accounts_balance(tmp_path: Path) -> None:
    for name in ("05-one-quote.csv", "05-two-quotes.csv"):
        summary = ingest([str(FAULTS / name)], NODE, str(tmp_path / name))
        assert (summary.read, summary.events, summary.rejected) == (200, 199, {"malformed row": 1})
        assert summary.unaccounted == 0


def test_rows_that_are_not_accounted_for_add_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = data.ingest.run._merge
    monkeypatch.setattr(data.ingest.run, "_merge", lambda *given: [r | {"new": r["new"] - 1} for r in merge(*given)])
    with pytest.raises(DataError, match="1 of the 3 rows read became neither an event nor a reject"):
        ingest([str(write(tmp_path / "a.csv", rows(3)))], NODE, str(tmp_path / "archive"))
    assert tables(tmp_path / "archive") == ([], [])


def test_bad_lines_of_json_are_rejects(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows(2))
    path.write_bytes(path.read_bytes() + b'{"InvoiceNo": \n\nnull\n[1]\n{"InvoiceNo": "\xff"}\n')
    summary = ingest([str(path)], NODE, str(tmp_path / "archive"))
    assert (summary.read, summary.events, summary.rejected) == (6, 2, {"malformed row": 4})
    rejects = tables(tmp_path / "archive")[1]
    assert sorted((reject["row"], reject["value"]) for reject in rejects) == [
        (2, '{"InvoiceNo": \n'),
        (4, "null"),
        (5, "[1]"),
        (6, '{"InvoiceNo": "\\xff"}\n'),
    ]


def test_a_rerun_adds_nothing(tmp_path: Path) -> None:
    records = [*rows(200), rows(1)[0], rows(1, 5)[0] | {"Quantity": 0}]
    path = str(write(tmp_path / "a.parquet", records))
    first = ingest([path], NODE, str(tmp_path / "archive"))
    assert (first.events, first.duplicates, first.known, first.rejects) == (200, 1, 0, 1)
    before, listed = tables(tmp_path / "archive"), files(tmp_path / "archive")
    again = ingest([path], NODE, str(tmp_path / "archive"))
    assert (again.events, again.duplicates, again.known, again.rejects) == (0, 1, 200, 0)
    assert again.events_total == 200
    assert tables(tmp_path / "archive") == before
    assert files(tmp_path / "archive") == listed


@pytest.mark.slow
def test_partitions_of_different_runs_fit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", rows(300))
    for bits, events in ((3, 300), (0, 0), (5, 0)):
        monkeypatch.setattr(data.ingest.run, "bits_for", lambda rows, bits=bits: bits)
        assert ingest([str(path)], NODE, str(tmp_path / "archive")).events == events
    assert len(Archive.at(str(tmp_path / "archive")).parts("events", NODE.name)) == 8
    path = write(tmp_path / "a.jsonl", rows(300) + rows(40, 7))
    assert ingest([str(path)], NODE, str(tmp_path / "archive")).events == 40
    monkeypatch.setattr(data.ingest.run, "bits_for", lambda rows: 1)
    assert ingest([str(path)], NODE, str(tmp_path / "archive")).known == 340


def test_of_rows_with_one_key_the_first_is_kept(tmp_path: Path) -> None:
    node = load_node("clickstream")
    click = {"id": "e1", "visitor": "v", "page": "home", "at": 1299067200000, "visit": "s", "dwellSeconds": 3.0}
    keys = dict.fromkeys(("clicked", "device"))
    for name, page in (("b", "second"), ("a", "first")):
        write(tmp_path / f"{name}.jsonl", [click | keys | {"page": page}, click | keys | {"id": name, "page": None}])
    summary = ingest([str(tmp_path)], node, str(tmp_path / "archive"))
    assert (summary.events, summary.duplicates, summary.dropped) == (1, 1, {"page": 2})
    [event] = tables(tmp_path / "archive", node)[0]
    assert (event["event_id"], event["item_id"], event["device"]) == ("e1", "first", "unknown")


def test_the_scaler_is_fitted_once_and_refitted_on_demand(tmp_path: Path) -> None:
    archive = str(tmp_path / "archive")

    def scaled(seed: int, quantity: int, **options: Any) -> tuple[int | None, float]:
        records = [rows(1, seed)[0] | {"Quantity": quantity}, rows(1, seed + 1)[0] | {"Quantity": quantity + 2}]
        summary = ingest([str(write(tmp_path / "a.jsonl", records))], NODE, archive, **options)
        [event] = read_events(archive, NODE).to_table(filter=data_field("session") == f"{seed}-0").to_pylist()
        assert event["scaler_version"] == summary.scaler_version
        return summary.scaler_version, event["outcome_scaled"]

    assert scaled(10, 2) == (1, -1.0)  # 2 and 4
    assert scaled(20, 10) == (1, 7.0)  # still mean 3, standard deviation 1
    assert scaled(30, 10, refit_scaler=True) == (2, -1.0)
    assert scaled(40, 12) == (2, 1.0)  # mean 11


def data_field(name: str) -> Any:
    return pa.compute.field(name)


KILLED = """
import os, signal, sys
import data.ingest.run
from data.archive.parquet import Archive
from data.nodes.node import load_node

publish, calls = Archive.publish, []

def dying(self, staged, path):
    calls.append(path)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    publish(self, staged, path)

Archive.publish = dying
data.ingest.run.bits_for = lambda rows: 3
data.ingest.run.ingest([sys.argv[1]], load_node("online_retail"), sys.argv[2])
"""


@pytest.mark.slow
def test_killed_while_publishing_and_run_again_is_a_clean_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write(tmp_path / "a.parquet", rows(400) + [row | {"UnitPrice": 0.0} for row in rows(50, 9)]))
    killed = subprocess.run([sys.executable, "-c", KILLED, path, str(tmp_path / "killed")], check=False, cwd=REPOSITORY)
    assert killed.returncode == -signal.SIGKILL
    assert 0 < len(tables(tmp_path / "killed")[0]) < 400
    monkeypatch.setattr(data.ingest.run, "bits_for", lambda rows: 3)
    ingest([path], NODE, str(tmp_path / "clean"))
    again = ingest([path], NODE, str(tmp_path / "killed"))
    assert again.known > 0
    assert again.events + again.known == again.events_total == 400
    assert tables(tmp_path / "killed") == tables(tmp_path / "clean")
    assert not list((tmp_path / "killed" / "_staging").iterdir())


@pytest.mark.slow
def test_killed_while_reading_and_run_again_is_a_clean_run(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / "in" / f"{number:02d}.jsonl", rows(2000, number))
    command = [sys.executable, "-m", "data.ingest", "--node", "online_retail", str(tmp_path / "in")]
    process = subprocess.Popen(
        [*command, "--archive", str(tmp_path / "killed")],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").glob("_staging/*/*/*.events"))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert tables(tmp_path / "killed") == ([], [])
    assert list((tmp_path / "killed").glob("_staging/*/*/*.events"))
    ingest([str(tmp_path / "in")], NODE, str(tmp_path / "clean"))
    assert ingest([str(tmp_path / "in")], NODE, str(tmp_path / "killed")).events == 80_000
    assert tables(tmp_path / "killed") == tables(tmp_path / "clean")


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on standard error of a command that must fail."""
    assert main(["--node", "online_retail", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    return line


def test_what_cannot_be_read_is_one_error_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(write(tmp_path / "good.csv", rows(3)))
    archive = ("--archive", str(tmp_path / "archive"))

    def made(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    lacking = write(tmp_path / "lacking.parquet", [{k: r[k] for k in HEADERS if k != "Country"} for r in rows(3)])
    line = failure(capsys, good, str(lacking), *archive)
    assert f"file://{lacking} lacks column 'Country' of node online_retail; it has 'InvoiceNo', 'StockCode'" in line
    assert "lacks columns 'InvoiceNo'" in failure(capsys, good, made("other.csv", b"a,b\n1,2\n"), *archive)
    assert "lacks keys 'Quantity'" in failure(capsys, good, made("other.jsonl", b'{"a": 1}\n'), *archive)
    assert "as parquet" in failure(capsys, good, made("bad.parquet", b"PAR1 not parquet"), *archive)
    assert "as jsonl: none of its first 1 lines" in failure(capsys, good, made("bad.jsonl", b"a,b\n"), *archive)
    assert "as csv: its header is not utf-8" in failure(capsys, good, made("latin.csv", b"Gr\xf6\xdfe\n"), *archive)
    assert "csv.gz as csv" in failure(capsys, good, made("utf16.csv.gz", gzip.compress(b"\xff\xfea")), *archive)
    assert "as csv" in failure(capsys, good, made("bad.csv.gz", b"not gzip"), *archive)
    assert "no such file or directory" in failure(capsys, good, str(tmp_path / "absent.csv"), *archive)
    assert "expected the extension .parquet" in failure(capsys, good, made("a.xlsx", b""), *archive)
    assert "no file with the extension" in failure(capsys, str(tmp_path / "*.pq"), *archive)
    nested = str(tmp_path / "nested.parquet")
    pq.write_table(pa.Table.from_pylist(rows(2)).set_column(3, "Quantity", [[[1], [2]]]), nested)
    assert "column 'Quantity' of" in failure(capsys, nested, *archive)
    assert "unknown" in failure(capsys, good, "--archive", "unknown://x")
    assert not (tmp_path / "archive").exists()


def test_a_file_that_breaks_off_adds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = gzip.compress(write(tmp_path / "a.csv", rows(40_000)).read_bytes())
    (tmp_path / "b.csv.gz").write_bytes(whole[: len(whole) * 9 // 10])
    archive = tmp_path / "archive"
    line = failure(capsys, str(tmp_path / "b.csv.gz"), "--archive", str(archive))
    # Which of the two is found first is a race: pyarrow reads ahead while the columns are looked at.
    assert re.search(rf"cannot read file://{tmp_path}/b\.csv\.gz (to its end|as csv)", line)
    assert files(archive) == []


def test_input_without_rows_is_an_empty_ingestion(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",".join(HEADERS) + "\n")
    (tmp_path / "b.jsonl").write_text("")
    (tmp_path / "d.csv").write_text("")
    pq.write_table(pa.Table.from_pylist(rows(1)).slice(0, 0), tmp_path / "c.parquet")
    summary = ingest([str(tmp_path)], NODE, str(tmp_path / "archive"))
    assert (summary.read, summary.events, summary.rejected, summary.scaler_version) == (0, 0, {}, None)
    assert tables(tmp_path / "archive") == ([], [])


def test_a_second_ingestion_of_the_node_is_refused(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.csv", rows(3)))
    archive = tmp_path / "archive"
    with Archive.at(str(archive)).lock(NODE.name), pytest.raises(DataError, match=f"by process {os.getpid()}"):
        ingest([path], NODE, str(archive))
    assert ingest([path], NODE, str(archive)).events == 3


def test_the_command_prints_its_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "a.csv", rows(3)))
    assert main(["--node", "online_retail", path, "--archive", str(tmp_path / "archive")]) == 0
    captured = capsys.readouterr()
    assert Summary.model_validate_json(captured.out).events == 3
    assert captured.err == ""


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.exists(), reason=f"Online Retail is not at {REAL}; set RAYCOMMEND_TEST_DATA")
def test_online_retail_gives_its_exact_numbers(tmp_path: Path) -> None:
    summary = ingest([str(REAL)], NODE, str(tmp_path))
    assert summary.read == 541_909
    assert summary.rejected == {
        "customer present": 135_080,
        "goods code": 1_920,
        "quantity > 0": 8_539,
        "unit price > 0": 33,
    }
    assert (summary.duplicates, summary.events, summary.rejects) == (5_187, 391_150, 145_572)
    assert (summary.users, summary.items, summary.sessions) == (4_334, 3_659, 18_402)
    table = read_events(str(tmp_path), NODE).to_table()
    assert table.num_rows == 391_150
    assert [
        pa.compute.count_distinct(table[name]).as_py() for name in ("event_id", "user_id", "item_id", "session")
    ] == [
        391_150,
        4_334,
        3_659,
        18_402,
    ]
    assert Archive.at(str(tmp_path)).dataset("rejects", NODE).count_rows() == 145_572


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not REAL.exists(), reason=f"Online Retail is not at {REAL}; set RAYCOMMEND_TEST_DATA")
def test_online_retail_as_people_have_it_gives_the_same_events(tmp_path: Path) -> None:
    """The CSV in latin-1, with dates as Excel shows them and quotes where they are needed."""
    table = pq.read_table(REAL).to_pandas()
    date = table["InvoiceDate"].dt
    hours = date.hour.astype(str) + ":" + date.minute.map("{:02d}".format)
    table["InvoiceDate"] = (
        date.month.astype(str) + "/" + date.day.astype(str) + "/" + date.year.astype(str) + " " + hours
    )
    table["CustomerID"] = table["CustomerID"].astype("Int64")
    table.to_csv(tmp_path / "data.csv", index=False, encoding="latin-1")
    as_csv = ingest([str(tmp_path / "data.csv")], load_node("online_retail_csv"), str(tmp_path / "csv"))
    expected = ingest([str(REAL)], NODE, str(tmp_path / "parquet"))
    assert as_csv.rejected == expected.rejected
    ids = [
        set(read_events(str(tmp_path / name), NODE).to_table(columns=["event_id"])["event_id"].to_pylist())
        for name in ("csv", "parquet")
    ]
    assert ids[0] == ids[1]
