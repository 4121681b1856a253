"""The READMEs' tables of results, from kept results: `python -m tests.bench.table [keep NAME ...]`.

`keep` takes the newest results of benches out of the home (`bench/NAME.json`) into `tests/bench/results`. Then the
tables are written into the READMEs: a row for each of `rows.toml`, with the commit and the date of its measurement. A
row whose code has changed since says so. The tables of serve/CAPACITY.md are written too.
"""

import argparse
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tests.bench.planning import needs as planning

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results")
CAPACITY = ROOT / "serve" / "CAPACITY.md"
HEAD = "| what | ours | beside it | bench | measured |\n|---|---|---|---|---|"
_BLOCK = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- end of results -->)", re.DOTALL)
OLDER = ", older than its code"


class Row(BaseModel):
    """One figure. `ours` and `beside` are formats, filled with the figures and peers of its bench."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bench: str
    what: str
    ours: str
    beside: str = ""
    page: str = "README.md"
    """Which table it is in."""


class Rows(BaseModel):
    """`rows.toml`: what is shown, and which code each bench measures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Mapping[str, tuple[str, ...]]
    """Folders and files by bench, from the root."""
    rows: tuple[Row, ...]


def read_rows() -> Rows:
    """Return what the table shows."""
    return Rows.model_validate(tomllib.loads((RESULTS / "rows.toml").read_text()))


def digest(paths: Iterable[str], root: Path = ROOT) -> str:
    """Return 12 hexadecimal digits over the Python and TOML files at or below some paths.

    Raises:
        FileNotFoundError: a path is none of the checkout.
    """
    found = hashlib.sha256()
    for path in sorted(paths):
        if not (root / path).exists():
            raise FileNotFoundError(f"rows.toml names {path}, which is not in the checkout")
        files = [root / path] if (root / path).is_file() else (root / path).rglob("*")
        for file in sorted(file for file in files if file.suffix in (".py", ".toml")):
            found.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def table(rows: Rows, results: Mapping[str, Mapping[str, Any]], root: Path = ROOT, page: str = "README.md") -> str:
    """Return the table of a page in Markdown.

    Raises:
        KeyError: a bench has no kept result, or there is no such figure.
    """
    lines = [HEAD]
    for row in (row for row in rows.rows if row.page == page):
        result = results[row.bench]
        values = {**result["peers"], **result["figures"]}
        older = "" if result["code"] == digest(rows.code[row.bench], root) else OLDER
        seeds = f", {result['seeds']} seeds" if result["seeds"] > 1 else ""
        measured = f"{result['date']}, {result['commit']}{seeds}{older}"
        cells = (
            row.what.format_map(values),
            row.ours.format_map(values),
            row.beside.format_map(values),
            f"`{row.bench}`",
            measured,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def read_results() -> dict[str, dict[str, Any]]:
    """Return the kept results by bench."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def insert(page: str, written: str) -> str:
    """Return a page with tables in place of those that it has."""
    return _BLOCK.sub(lambda _: written, page)


def main() -> None:
    """Keep results, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.table", description=__doc__)
    parser.add_argument("keep", nargs="*", metavar="keep NAME", help="results to keep first")
    names = parser.parse_args().keep
    if names and names[0] != "keep":
        parser.error("say `keep` before the names of benches")
    for name in names[1:]:
        from tests.bench.common import folder  # it loads matplotlib

        (RESULTS / f"{name}.json").write_bytes((folder() / f"{name}.json").read_bytes())
    results, rows = read_results(), read_rows()
    for page in sorted({row.page for row in rows.rows}):
        path = ROOT / page
        path.write_text(insert(path.read_text(), table(rows, results, page=page)))
    if "capacity" in results:
        needed = planning.table(planning.Costs.of(results), planning.Prices.read())
        CAPACITY.write_text(insert(CAPACITY.read_text(), needed))


if __name__ == "__main__":
    main()
