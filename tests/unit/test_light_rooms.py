"""Rooms that are to load fast load little: seen in a fresh interpreter, by whatever way an import comes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
PYDANTIC = {
    "annotated_types", "dotenv", "pydantic", "pydantic_core", "pydantic_settings", "typing_extensions",
    "typing_inspection",
}  # fmt: skip
NUMPY = {"cython_runtime", "numpy"}
SQLALCHEMY = {"cython_runtime", "greenlet", "sqlalchemy"}
GROUND = (
    "attribution.join",
    "command",
    "errors",
    "feature_objects",
    "fields",
    "json_lines",
    "private",
    "sameness",
    "schema",
    "settings",
)

LOADED = """
import importlib, json, sys
before = {name.partition(".")[0] for name in sys.modules}
for name in sys.argv[1:]:
    importlib.import_module(name)
roots = {name.partition(".")[0] for name in sys.modules if not name.startswith("_")} - before
print(json.dumps(sorted(roots - sys.stdlib_module_names - {"data", "rl", "serve"})))
"""


def modules_of(room: str) -> tuple[str, ...]:
    """Return the modules of a folder."""
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, room
    return tuple(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if file.stem != "__init__")


def load(*modules: str) -> set[str]:
    """Return the packages of others that are loaded with some modules."""
    command = [sys.executable, "-c", LOADED, *modules]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return set(json.loads(answer.stdout))


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        pytest.param(tuple(f"data.{name}" for name in GROUND), PYDANTIC | NUMPY, id="the ground of data"),
        pytest.param(modules_of("serve/contracts"), PYDANTIC, id="serve/contracts"),
        pytest.param(modules_of("data/log/writer"), PYDANTIC | SQLALCHEMY | {"filelock"}, id="data/log/writer"),
        pytest.param(modules_of("rl/policy"), PYDANTIC | NUMPY, id="rl/policy"),
        pytest.param(("rl.policies",), PYDANTIC | NUMPY, id="the configurations of policies"),
    ],
)
def test_a_room_loads_no_more_than_it_may(modules: tuple[str, ...], allowed: set[str]) -> None:
    assert load(*modules) <= allowed


def test_what_a_room_may_not_load_is_seen() -> None:
    assert "pyarrow" in load("data.nodes.times")
