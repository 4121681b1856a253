"""What the archive holds, from files that an ingestion would have written."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.archive.parquet import Archive, Kind, write_part
from data.archive.summary import summarise
from data.errors import DataError


def write(archive: Archive, kind: Kind, node: str, part: str, rows: dict[str, Any]) -> None:
    folder = Path(archive.folder(kind, node))
    folder.mkdir(parents=True, exist_ok=True)
    write_part(pa.table(rows), str(folder / part), next(iter(rows)), archive)


def test_an_archive_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert summarise(Archive.at(str(tmp_path / "archive"))) == []
    assert not (tmp_path / "archive").exists()


def test_rows_files_and_reasons_are_counted_by_node(tmp_path: Path) -> None:
    archive = Archive.at(str(tmp_path))
    write(archive, "events", "tills", "p0-a.parquet", {"event_id": ["1", "2", "3"]})
    write(archive, "events", "tills", "p1-a.parquet", {"event_id": ["4"]})
    write(archive, "events", "tills", "_unfinished.parquet", {"event_id": ["5"]})
    columns = {"rule": ["r", "r", "q", "r", "r"], "column": ["c", "c", None, "c", "c"]}
    columns |= {"value": ["1", "1", None, "2", "3"]}
    write(archive, "rejects", "tills", "p-a.parquet", {"reject_id": list("abcde"), **columns})
    write(archive, "events", "web", "p-b.parquet", {"event_id": ["1"]})
    tills, web = summarise(archive)
    assert (tills.name, tills.events.files, tills.events.rows, tills.rejects.rows) == ("tills", 2, 4, 5)
    files = Path(archive.folder("events", "tills")).glob("p*.parquet")
    assert tills.events.bytes == sum(file.stat().st_size for file in files)
    assert tills.events.newest is not None
    found = [(one.rule, one.column, one.count, one.values) for one in tills.reasons]
    assert found == [("r", "c", 4, ("1", "2", "3")), ("q", None, 1, (None,))]
    assert (web.name, web.events.rows, web.rejects.files, web.reasons) == ("web", 1, 0, ())


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    archive = Archive.at(str(tmp_path))
    folder = Path(archive.folder("events", "tills"))
    folder.mkdir(parents=True)
    (folder / "p-a.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"^the archive at .* cannot be read"):
        summarise(archive)
