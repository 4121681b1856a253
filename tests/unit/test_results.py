"""The READMEs' tables of results are what kept results say, and a figure older than its code says so."""

from pathlib import Path

import pytest

from tests.bench import table
from tests.bench.table import OLDER, ROOT, Row, Rows, digest, insert, read_results, read_rows

BENCHES = {"archive_scan_one", "bandits", "common", "dqn_loops", "ingest_pandas", "restart_learner", "table", "vw"} | {
    "slates_obp",
    "waiting_fold",
}
"""Modules of tests/bench that are no bench: they are parts of one."""


@pytest.mark.parametrize("name", sorted({row.page for row in read_rows().rows}))
def test_a_page_has_the_table_of_the_kept_results(name: str) -> None:
    page, rows = (ROOT / name).read_text(), table.table(read_rows(), read_results(), page=name)
    assert insert(page, rows) == page, "run python -m tests.bench.table"
    assert rows in page


def test_every_bench_has_a_kept_result_and_a_row() -> None:
    modules = {path.stem for path in (ROOT / "tests/bench").glob("*.py")} - BENCHES
    rows = read_rows()
    assert modules == {row.bench for row in rows.rows} == set(rows.code) == set(read_results())


def rows(code: str) -> Rows:
    row = Row(bench="speed", what="rows", ours="{rate:,.0f}", beside="pandas {other:.1f}")
    return Rows(code={"speed": (code,)}, rows=(row,))


def result(code: str) -> dict[str, dict[str, object]]:
    return {
        "speed": {
            "figures": {"rate": 1234.5},
            "peers": {"other": 2.0},
            "seeds": 3,
            "date": "2026-01-02",
            "commit": "abc",
            "code": code,
        }
    }


def test_a_row_says_when_its_code_has_changed_since(tmp_path: Path) -> None:
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast/a.py").write_text("x = 1\n")
    kept = result(digest(["fast"], tmp_path))
    line = "| rows | 1,234 | pandas 2.0 | `speed` | 2026-01-02, abc, 3 seeds"
    assert table.table(rows("fast"), kept, tmp_path).splitlines()[-1] == line + " |"
    (tmp_path / "fast/notes.txt").write_text("not code")
    assert OLDER not in table.table(rows("fast"), kept, tmp_path)
    (tmp_path / "fast/a.py").write_text("x = 2\n")
    assert table.table(rows("fast"), kept, tmp_path).splitlines()[-1] == line + OLDER + " |"


def test_rows_of_code_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="names slow, which is not in the checkout"):
        table.table(rows("slow"), result(""), tmp_path)
