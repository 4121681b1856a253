"""The README says what is true: every room in its layout, every command, every experiment and every route."""

import importlib
import re
from pathlib import Path

import pytest

from data.log.store import Store
from serve.api.application import create_api
from serve.contracts.errors import ERRORS
from serve.decisions.served import Served
from serve.decisions.service import Service
from tests.support.writers import StoreWriter

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SERVICE = (ROOT / "serve/README.md").read_text()
PAGES = "".join(
    (ROOT / page).read_text()
    for page in (
        "serve/OPERATING.md",
        "serve/CLUSTER.md",
        "serve/SECURITY.md",
        "serve/AZURE.md",
        "serve/EVENTS.md",
        "serve/PIPELINE.md",
        "serve/ABTESTS.md",
        "data/README.md",
        "rl/README.md",
    )
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
    folder, name = r"(?:rl/experiments|data/nodes|serve|serve/deploy)", r"[a-z_]+\.(?:toml|yaml|py|cfg)"
    named = re.findall(f"{folder}/{name}", README + SERVICE + PAGES)
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path


def test_every_route_is_in_the_table(store: Store) -> None:
    api = create_api(Service(Served({}), store, StoreWriter(store), {}))
    routes = {f"`{method.upper()} {path}`" for path, methods in api.openapi()["paths"].items() for method in methods}
    assert {"`POST /v1/recommend`", "`GET /healthz`", "`DELETE /v1/items/{item_id}`"} < routes
    assert sorted(route for route in routes if route not in SERVICE) == []


def test_the_table_of_errors_is_the_one_that_is_answered_by() -> None:
    rows = (f"| {kind.status} | `{code}` | {kind.when} | {kind.right} |" for code, kind in ERRORS.items())
    assert "\n".join(("| status | code | when | what would be right |", "|---|---|---|---|", *rows)) in SERVICE
