"""Descriptions of networks: what is said is what is read, and every mistake is named with its place."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rl.networks import (
    NetworkDescription,
    NetworkError,
    parse,
    read_description,
)
from rl.networks.description.graph import order
from rl.networks.description.nodes import AddNode, DenseNode, Node
from rl.networks.description.shapes import Shape

TOML = """
[embeddings]
words = { values = 100, width = 6 }
items = { values = ["tea", "cup"], width = 4 }

[networks.tower]
inputs = { x = 6 }
nodes.wide = { kind = "dense", input = "x", width = 8 }
nodes.out = { kind = "residual", input = "wide", hidden = 5 }
returns = "out"

[inputs]
title = { kind = "text", embedding = "words" }
body = { kind = "text", embedding = "words", length = 9, pool = "attention" }
tags = { kind = "tags", embedding = "items" }
last = { kind = "categorical", embedding = "items" }
past = { kind = "sequence", embedding = "items", length = 5, pool = "none" }
spent = { kind = "numeric", width = 3, standardise = true }

[nodes]
left = { kind = "network", network = "tower", inputs = { x = "title" } }
right = { kind = "network", network = "tower", inputs = { x = "body" } }
both = { kind = "add", inputs = ["left", "right"] }
looked = { kind = "attention", input = "past", heads = 4 }
history = { kind = "pool", input = "looked", pool = "last" }
all = { kind = "concatenate", inputs = ["both", "history", "tags", "last", "spent"] }
hidden = { kind = "dense", input = "all", width = 7, activation = "gelu", layer_norm = true, dropout = 0.1 }

[outputs]
value = { kind = "q", input = "hidden", actions = 3 }
click = { kind = "binary", input = "hidden", weight = 0.5 }
topic = { kind = "class", input = "history", classes = ["a", "b"] }
rating = { kind = "regression", input = "hidden", loss = "mae" }
"""


def changed(path: str, value: Any = None) -> dict[str, Any]:
    """Return the description above with one place set, or removed where the value is None."""
    data = tomllib.loads(TOML)
    *way, last = path.split(".")
    place = data
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return data


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(TOML)
    description = read_description(tmp_path / "network.toml")
    assert description == parse(tomllib.loads(TOML)) == parse(description.model_dump(mode="json"))
    assert description.embeddings["words"].size == 100
    assert description.embeddings["items"].size == 3
    assert description.readers("words") == ["title", "body"]
    assert description.outputs["click"].weight == 0.5


def test_shapes_follow_from_what_is_read() -> None:
    shapes = parse(tomllib.loads(TOML)).shapes()
    assert shapes == {
        "title": Shape(6),
        "body": Shape(6),
        "tags": Shape(4),
        "last": Shape(4),
        "past": Shape(4, 5),
        "spent": Shape(3),
        "left": Shape(8),
        "right": Shape(8),
        "both": Shape(8),
        "looked": Shape(4, 5),
        "history": Shape(4),
        "all": Shape(8 + 4 + 4 + 4 + 3),
        "hidden": Shape(7),
    }
    assert str(shapes["past"]) == "[B, 5, 4]"


def test_nodes_may_be_written_in_any_order() -> None:
    nodes: dict[str, Node] = {
        "c": AddNode(inputs=("a", "b")),
        "b": DenseNode(input="a", width=2),
        "a": DenseNode(input="x", width=2),
    }
    assert order(nodes, ["x"]) == ("a", "b", "c")


NODES: list[tuple[str, Any, str]] = [
    ("nodes.hidden.input", "al", r"^nodes\.hidden: no input or node is named 'al'; there are: title, body, .*hidden"),
    ("nodes.both.inputs", ["left", "hidden"], r"^nodes: .*hidden.* is a cycle"),
    ("nodes.hidden.input", "hidden", r"^nodes: hidden -> hidden is a cycle"),
    ("nodes.both.inputs", ["left", "spent"], r"^nodes\.both: cannot add left \[B, 8\], spent \[B, 3\]"),
    ("nodes.both.inputs", ["left"], r"^nodes\.both\.add\.inputs: Tuple should have at least 2 items"),
    (
        "nodes.all.inputs",
        ["both", "past", "history", "tags", "last", "spent"],
        r"^nodes\.all: cannot lay .*past \[B, 5, 4\]",
    ),
    ("nodes.looked.heads", 3, r"^nodes\.looked: 3 heads cannot share a width of 4"),
    ("nodes.looked.input", "tags", r"^nodes\.looked: needs a sequence, got tags \[B, 4\]; .*pool = \"none\""),
    ("nodes.history.input", "tags", r"^nodes\.history: needs a sequence"),
    ("nodes.extra", {"kind": "dense", "input": "all", "width": 2}, r"^nodes\.extra: leads to no output"),
    ("nodes.title", {"kind": "dense", "input": "all", "width": 2}, r"^nodes\.title: inputs\.title has this name"),
    ("nodes.hidden.kind", "conv", r"^nodes\.hidden: Input tag 'conv' .* 'dense', 'residual'"),
    ("nodes.hidden.units", 3, r"^nodes\.hidden\.dense\.units: Extra inputs are not permitted"),
    ("nodes.hidden.width", 0, r"^nodes\.hidden\.dense\.width: Input should be greater than 0"),
    ("nodes.hidden.dropout", 1.0, r"^nodes\.hidden\.dense\.dropout: Input should be less than 1"),
    ("nodes.a-b", {"kind": "dense", "input": "all", "width": 2}, r"^nodes\.a-b.*pattern"),
]
ENDS: list[tuple[str, Any, str]] = [
    ("inputs.title.embedding", "word", r"^inputs\.title\.embedding: no embedding is named 'word'; .*: words, items"),
    ("inputs.extra", {"kind": "numeric"}, r"^inputs\.extra: leads to no output; connect it or leave it out"),
    ("inputs.title.length", 0, r"^inputs\.title\.text\.length: Input should be greater than 0"),
    ("inputs.tags.pool", "last", r"^inputs\.tags\.tags\.pool: Input should be 'mean' or 'sum'"),
    ("inputs", {}, r"^inputs: Dictionary should have at least 1 item"),
    ("embeddings.extra", {"values": 3, "width": 1}, r"^embeddings\.extra: no input uses it"),
    ("embeddings.words.values", 1, r"^embeddings\.words\.values: a table needs at least 2 ids"),
    ("embeddings.items.values", ["a", "b", "a"], r"^embeddings\.items\.values.*distinct, got more than once: a"),
    ("outputs.value.input", "hiden", r"^outputs\.value\.input: no input or node is named 'hiden'"),
    ("outputs.value.input", "past", r"^outputs\.value\.input: needs a vector, got past \[B, 5, 4\]; .* pool"),
    ("outputs.hidden", {"kind": "binary", "input": "all"}, r"^outputs\.hidden: nodes\.hidden has this name already"),
    ("outputs.topic.classes", ["a", "a"], r"^outputs\.topic\.class\.classes.*got more than once: a"),
    ("outputs.topic.classes", 0, r"^outputs\.topic\.class\.classes"),
    ("outputs.click.weight", -1, r"^outputs\.click\.binary\.weight: Input should be greater than or equal to 0"),
    ("outputs.rating.loss", "cross_entropy", r"^outputs\.rating\.regression\.loss: Input should be 'mse', 'huber'"),
    ("outputs", None, r"^outputs: Field required"),
    ("layers", {}, r"^layers: Extra inputs are not permitted"),
]
NETWORKS: list[tuple[str, Any, str]] = [
    ("nodes.left.network", "towr", r"^nodes\.left\.network: no network is named 'towr'; there are: tower"),
    ("nodes.left.inputs", {"y": "title"}, r"^nodes\.left\.inputs: the network takes x, got y"),
    ("nodes.left.inputs", {"x": "spent"}, r"^nodes\.left\.inputs\.x: the network takes \[B, 6\], got spent \[B, 3\]"),
    ("networks.tower.returns", "end", r"^networks\.tower\.returns: no node is named 'end'; there are: wide, out"),
    ("networks.tower.returns", "wide", r"^networks\.tower\.nodes\.out: leads to no output"),
    ("networks.tower.inputs", {"x": 6, "z": 2}, r"^networks\.tower\.inputs\.z: leads to no output"),
    ("networks.tower.nodes.x", {"kind": "dense", "input": "x", "width": 2}, r"^networks\.tower\.nodes\.x: .*inputs\.x"),
    ("networks.tower.nodes.wide.input", "title", r"^networks\.tower\.nodes\.wide: no input or node is named 'title'"),
    (
        "networks.tower.nodes.wide",
        {"kind": "network", "network": "tower", "inputs": {"x": "x"}},
        r"^networks: tower -> tower is a cycle",
    ),
    (
        "networks.tower.nodes.wide",
        {
            "kind": "network",
            "network": {
                "inputs": {"z": 6},
                "nodes": {"again": {"kind": "network", "network": "tower", "inputs": {"x": "z"}}},
                "returns": "again",
            },
            "inputs": {"z": "x"},
        },
        r"^networks: tower -> tower is a cycle",
    ),
    (
        "networks.spare",
        {"inputs": {"x": 1}, "nodes": {"y": {"kind": "dense", "input": "x", "width": 1}}, "returns": "y"},
        r"^networks\.spare: no node uses it",
    ),
    (
        "nodes.left.network",
        {"inputs": {"x": 6}, "nodes": {"y": {"kind": "dense", "input": "q", "width": 8}}, "returns": "y"},
        r"^nodes\.left\.network\.nodes\.y: no input or node is named 'q'; there are: x, y",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), NODES + ENDS + NETWORKS)
def test_a_mistake_is_named_with_its_place(path: str, value: object, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        parse(changed(path, value))


def test_several_mistakes_are_told_together() -> None:
    data = changed("inputs.title.length", -1)
    data["outputs"]["click"]["weight"] = "much"
    with pytest.raises(NetworkError, match=r"inputs\.title\.text\.length: .*\noutputs\.click\.binary\.weight: "):
        parse(data)


def test_a_description_made_in_python_is_checked_too() -> None:
    with pytest.raises(ValidationError, match="nodes: hidden -> hidden is a cycle"):
        NetworkDescription.model_validate(changed("nodes.hidden.input", "hidden"))


def test_a_description_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse(tomllib.loads(TOML)).nodes = {}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[nodes.a]\n[nodes.a]\n", r"network\.toml: Cannot declare .*twice"),
        ("inputs = ", r"network\.toml: Invalid value"),
        ("[inputs.x]\nkind = 'numeric'\n", r"network\.toml: outputs: Field required"),
    ],
)
def test_a_file_that_is_no_description_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "network.toml").write_text(text)
    with pytest.raises(NetworkError, match=message):
        read_description(tmp_path / "network.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"nowhere\.toml.*No such file"):
        read_description(tmp_path / "nowhere.toml")
