"""The tree that `data.errors` draws is the tree that there is."""

import ast
import builtins
import re
from pathlib import Path

import pytest

import data.errors

REPOSITORY = Path(data.errors.__file__).parents[1]


def drawn() -> dict[str, tuple[str, str]]:
    """Parent and room of each class, as drawn."""
    tree, above = dict[str, tuple[str, str]](), [""]
    assert data.errors.__doc__
    for indent, name, room in re.findall(r"^([│├└─ ]*)([A-Z]\w+)  +([a-z.]+)", data.errors.__doc__, re.MULTILINE):
        depth = len(indent) // 4
        assert depth < len(above), f"{name} hangs in the air"
        above[depth + 1 :] = [name]
        tree[name] = (above[depth], room)
    return tree


def defined() -> dict[str, tuple[list[str], str]]:
    """Bases and room of each exception class of data, rl and serve that is not private, whatever is imported."""
    classes = dict[str, tuple[list[str], str]]()
    for path in sorted(path for floor in ("data", "rl", "serve") for path in (REPOSITORY / floor).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                classes[node.name] = (bases, ".".join(path.relative_to(REPOSITORY).parent.parts[:2]))
    raised = {name for name in dir(builtins) if name.endswith(("Error", "Exception"))}
    while more := {name for name, (bases, _) in classes.items() if raised & set(bases)} - raised:
        raised |= more
    return {name: found for name, found in classes.items() if name in raised and not name.startswith("_")}


@pytest.mark.heavy
def test_every_error_hangs_where_it_is_drawn() -> None:
    tree, classes = drawn(), defined()
    assert tree.keys() == classes.keys()
    assert {name: room for name, (_, room) in tree.items()} == {name: room for name, (_, room) in classes.items()}
    for name, (parent, _) in tree.items():
        assert classes[name][0][0] == (parent or "Exception"), name


def test_one_root() -> None:
    assert [name for name, (parent, _) in drawn().items() if not parent] == ["RecommenderError"]
