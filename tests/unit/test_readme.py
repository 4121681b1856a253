"""The README says what is true: every room in its layout, every command, every experiment and every route."""

import importlib
import re
from pathlib import Path

import pytest

from serve.http import answers as errors

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SERVICE = (ROOT / "serve/README.md").read_text()
PAGES = "".join(
    (ROOT / page).read_text() for page in ("serve/OPERATING.md", "serve/AZURE.md", "data/README.md", "rl/README.md")
)


def layout() -> set[str]:
    """Return the rooms that the layout names, as paths from the root."""
    block = re.search(r"^## Layout\n.*?```\n(.*?)```", README, re.DOTALL | re.MULTILINE)
    assert block is not None
    floor, named = "", set()
    for line in block[1].splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            floor = name
        elif line.startswith("  ") and floor in ("data/", "rl/", "serve/") and line[2] != " ":
            named.add(floor + name.rstrip("/"))
    return named


def test_the_layout_names_every_room_and_no_other() -> None:
    rooms = {
        f"{floor}/{path.name}"
        for floor in ("data", "rl", "serve")
        for path in (ROOT / floor).iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert layout() == rooms


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([a-z_.]+)", README + SERVICE + PAGES))))
def test_every_command_exists(module: str) -> None:
    if module.endswith("."):  # tests.bench.NAME
        assert module == "tests.bench."
    else:
        found = importlib.import_module(module)
        found = importlib.import_module(f"{module}.__main__") if hasattr(found, "__path__") else found
        assert callable(found.main)


def test_the_first_page_can_be_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 250


def test_every_named_file_exists() -> None:
    named = re.findall(r"(?:rl/experiments|data/nodes|serve)/[a-z_]+\.(?:toml|yaml|py|cfg)", README + SERVICE + PAGES)
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path


def test_every_route_is_in_the_table() -> None:
    sources = [path.read_text() for path in (ROOT / "serve/api/v1").glob("*.py")]
    routes = [route for source in sources for route in re.findall(r"@(?:router|routes)\.(\w+)\(\"(.*?)\"", source)]
    assert len(routes) > 4
    for method, path in routes:
        assert f"`{method.upper()} /v1{path.replace(':rest', '')}`" in README


def test_the_table_of_errors_is_the_one_that_is_answered_by() -> None:
    assert errors.table() in SERVICE
