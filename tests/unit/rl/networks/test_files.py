"""Networks as files: stored and loaded, drawn, exported to ONNX; what was changed or does not agree is refused."""

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from rl.networks import (
    Network,
    NetworkDescription,
    NetworkError,
    Training,
    build,
    draw_network,
    fit,
    load_network,
    parse,
    read_description,
    save_network,
    storage,
)
from rl.networks.drawing.layout import arrange, crossings, depths
from rl.networks.drawing.panels import panels
from rl.networks.export import export_onnx, random_inputs
from rl.onnx_export import TOLERANCE

SMALL: dict[str, Any] = {
    "embeddings": {"items": {"values": ["tea", "cup", "pot"], "width": 2}},
    "inputs": {
        "last": {"kind": "categorical", "embedding": "items"},
        "spent": {"kind": "numeric", "width": 2, "standardise": True},
    },
    "nodes": {"all": {"kind": "concatenate", "inputs": ["last", "spent"]}},
    "outputs": {"topic": {"kind": "class", "input": "all", "classes": ["a", "b"]}},
}
TOWER: dict[str, Any] = {
    "inputs": {"x": 6},
    "nodes": {
        "wide": {"kind": "dense", "input": "x", "width": 8, "layer_norm": True},
        "out": {"kind": "residual", "input": "wide", "hidden": 5, "activation": "gelu"},
    },
    "returns": "out",
}
EVERYTHING: dict[str, Any] = {
    "embeddings": {"words": {"values": 40, "width": 6}, "items": {"values": 9, "width": 4}},
    "networks": {"tower": TOWER},
    "inputs": {
        "title": {"kind": "text", "embedding": "words", "length": 3, "pool": "attention"},
        "body": {"kind": "text", "embedding": "words", "length": 7, "positions": True},
        "tags": {"kind": "tags", "embedding": "items", "length": 4},
        "last": {"kind": "categorical", "embedding": "items"},
        "past": {"kind": "sequence", "embedding": "items", "length": 5, "pool": "none", "positions": True},
        "old": {"kind": "sequence", "embedding": "items", "length": 5, "pool": "last"},
        "spent": {"kind": "numeric", "width": 3, "standardise": True},
    },
    "nodes": {
        "left": {"kind": "network", "network": "tower", "inputs": {"x": "title"}},
        "right": {"kind": "network", "network": "tower", "inputs": {"x": "body"}},
        "own": {"kind": "network", "network": TOWER, "inputs": {"x": "title"}},
        "sum": {"kind": "add", "inputs": ["left", "right", "own"]},
        "looked": {"kind": "attention", "input": "past", "heads": 2, "hidden": 6, "dropout": 0.1},
        "history": {"kind": "pool", "input": "looked", "pool": "mean"},
        "all": {"kind": "concatenate", "inputs": ["sum", "history", "tags", "last", "old", "spent"]},
        "hidden": {"kind": "dense", "input": "all", "width": 7, "activation": "tanh", "dropout": 0.2},
    },
    "outputs": {
        "value": {"kind": "q", "input": "hidden", "actions": 3},
        "click": {"kind": "binary", "input": "hidden"},
        "topic": {"kind": "class", "input": "history", "classes": 2, "weight": 0.5},
        "rating": {"kind": "regression", "input": "hidden"},
    },
}


def trained() -> Network:
    network = build(parse(SMALL), seed=2)
    inputs = random_inputs(network.description, 30, np.random.default_rng(0))
    fit(network, inputs, {"topic": inputs["last"] % 2}, Training(epochs=2))
    return network


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_network(trained(), folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A saved network of a test's own."""
    return shutil.copytree(saved, tmp_path / "net")


# Stored and loaded


@pytest.mark.heavy
def test_a_round_trip_is_exact(tmp_path: Path) -> None:
    for name, network in {"small": trained(), "everything": build(parse(EVERYTHING), seed=1).eval()}.items():
        digest = save_network(network, tmp_path / "deep" / name)
        loaded = load_network(tmp_path / "deep" / name)
        assert loaded.description == network.description
        assert not loaded.training
        inputs = random_inputs(network.description, 20, np.random.default_rng(1))
        for output, given in network(inputs).items():
            assert torch.equal(loaded(inputs)[output], given)
        assert save_network(loaded, tmp_path / "again") == digest
        assert loaded.state_dict().keys() == network.state_dict().keys()


def test_statistics_are_stored_so_that_learning_goes_on(folder: Path) -> None:
    original, loaded = trained(), load_network(folder)
    inputs = random_inputs(original.description, 50, np.random.default_rng(5))
    for network in (original, loaded):
        fit(network, inputs, {"topic": inputs["last"] % 2}, Training(epochs=1))
    assert torch.equal(loaded(inputs)["topic"], original(inputs)["topic"])


def test_nothing_is_stored_twice_and_nothing_is_left_over(folder: Path) -> None:
    (folder / "leftover").write_text("of another time")
    (folder.parent / "net.new").mkdir()
    save_network(build(parse(EVERYTHING)), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["network.json", "weights.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["net"]
    stored = load_tensors((folder / "weights.safetensors").read_bytes())
    assert sum("tower" in name and "wide.linear.weight" in name for name in stored) == 1
    assert sum(len(tensor) == 40 for tensor in stored.values() if tensor.ndim) == 1


@pytest.mark.parametrize("at", [0, 60, -1])
def test_a_flipped_byte_of_the_weights_is_refused(folder: Path, at: int) -> None:
    blob = bytearray((folder / "weights.safetensors").read_bytes())
    blob[at] ^= 1
    (folder / "weights.safetensors").write_bytes(blob)
    with pytest.raises(NetworkError, match=r"has sha256 .*, network\.json says .*: a file was changed"):
        load_network(folder)


def test_a_changed_description_is_refused(folder: Path) -> None:
    path = folder / "network.json"
    path.write_text(path.read_text().replace('"tea"', '"mug"'))
    with pytest.raises(NetworkError, match="a file was changed"):
        load_network(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"network\.json is not JSON"),
        ("[1]", r"network\.json must have format, sha256 and description, and nothing else"),
        ('{"format": 1, "sha256": ""}', "must have format, sha256 and description"),
        ('{"format": 2, "sha256": "", "description": {}}', "has format 2, this version reads 1"),
    ],
)
def test_another_description_file_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "network.json").write_text(text)
    with pytest.raises(NetworkError, match=message):
        load_network(folder)


@pytest.mark.parametrize("missing", ["network.json", "weights.safetensors"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(NetworkError, match=rf"no network in .*net: .*{missing}"):
        load_network(folder)


def rehashed(folder: Path, description: dict[str, Any], blob: bytes) -> None:
    """Store what was changed with the hash that it has now."""
    stored = {"format": 1, "sha256": storage._sha256(description, blob), "description": description}
    (folder / "network.json").write_text(json.dumps(stored))
    (folder / "weights.safetensors").write_bytes(blob)


def test_weights_that_do_not_fit_are_refused_even_with_their_hash(folder: Path) -> None:
    blob = (folder / "weights.safetensors").read_bytes()
    description = parse(SMALL).model_dump(mode="json")
    wider = description | {"embeddings": {"items": {"values": ["tea", "cup", "pot"], "width": 3}}}
    rehashed(folder, wider, blob)
    with pytest.raises(NetworkError, match=r"does not fit its description: (.|\n)*size mismatch"):
        load_network(folder)
    rehashed(folder, description | {"outputs": {}}, blob)
    with pytest.raises(NetworkError, match="outputs: Dictionary should have at least 1 item"):
        load_network(folder)
    rehashed(folder, description, b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(NetworkError, match=r"weights\.safetensors holds no tensors"):
        load_network(folder)
    weights = load_tensors(blob)
    weights["heads.node_topic.bias"][0] = float("nan")
    rehashed(folder, description, save_tensors(weights))
    with pytest.raises(NetworkError, match=r"heads\.node_topic\.bias holds values that are not finite"):
        load_network(folder)


# Exported


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path, float]:
    """A network of every kind of node, in training mode, with its ONNX file."""
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    network = build(parse(EVERYTHING), seed=3).train()
    return network, path, export_onnx(network, path)


@pytest.mark.heavy
def test_onnxruntime_computes_what_torch_does(exported: tuple[Network, Path, float]) -> None:
    network, path, difference = exported
    assert 0 <= difference < TOLERANCE
    assert network.training
    assert [file.name for file in path.parent.iterdir()] == ["net.onnx"]  # weights included
    onnx.checker.check_model(onnx.load(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == list(network.description.inputs)
    assert [node.name for node in session.get_outputs()] == list(network.description.outputs)
    for rows in (1, 5, 100):
        inputs = random_inputs(network.description, rows, np.random.default_rng(rows))
        given = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        with torch.no_grad():
            wanted = network.eval()(inputs)
        for name, got in zip(wanted, given, strict=True):
            np.testing.assert_allclose(got, wanted[name].numpy(), atol=1e-4, rtol=0)
    network.train()


@pytest.mark.slow
@pytest.mark.parametrize(("opset", "ir"), [(None, 8), (18, 8), (20, 9), (22, 10)])
def test_operators_are_those_asked_for_and_the_ir_version_is_their_lowest(
    opset: int | None, ir: int, tmp_path: Path
) -> None:
    """By the table of ONNX's releases: opset 18 came with IR 8, which runtimes from 1.14 on take."""
    path, asked = str(tmp_path / "net.onnx"), {} if opset is None else {"opset": opset}
    export_onnx(build(parse(EVERYTHING)), path, **asked)
    model = onnx.load(path)
    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (
        ir,
        [("", opset or 18)],
    )


@pytest.mark.parametrize("opset", [9, 17, 23, 99])
def test_operators_that_cannot_be_had_are_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=f"opset must be between 18 and 22, got {opset}"):
        export_onnx(build(parse(SMALL)), tmp_path / "net.onnx", opset=opset)
    assert list(tmp_path.iterdir()) == []


def test_paths_may_be_strings(tmp_path: Path) -> None:
    network = build(parse(SMALL))
    assert save_network(network, str(tmp_path / "net")) == save_network(network, tmp_path / "other")
    assert load_network(str(tmp_path / "net")).description == network.description
    (tmp_path / "small.toml").write_text("[inputs.x]\nkind = 'numeric'\n[outputs.y]\nkind = 'binary'\ninput = 'x'\n")
    assert read_description(str(tmp_path / "small.toml")).inputs["x"].kind == "numeric"


@pytest.mark.heavy
def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, export = build(parse(SMALL), seed=0), torch.onnx.export

    def broken(module: Any, *args: Any, **options: Any) -> Any:
        module.network = build(parse(SMALL), seed=0).eval()
        with torch.no_grad():
            module.network.get_parameter("heads.node_topic.bias")[1] += 3e-4
        return export(module, *args, **options)

    monkeypatch.setattr(torch.onnx, "export", broken)
    with pytest.raises(NetworkError, match=r"output 'topic' .* differs from torch's by 0\.0003 on 1 random rows"):
        export_onnx(network, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
def test_the_exporter_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("torch.onnx").level
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(build(parse(SMALL)), tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx").level == level


# Drawn


def overlaps(description: NetworkDescription) -> int:
    """Count the boxes of one column that overlap, with a unit of height for each."""
    count = 0
    for panel in panels(description):
        heights = dict.fromkeys(panel.boxes, 1.0)
        layout = arrange(panel.columns, panel.edges, heights, gap=0.2)
        for a in panel.boxes:
            for b in panel.boxes:
                count += a < b and panel.columns[a] == panel.columns[b] and abs(layout.y[a] - layout.y[b]) < 1.2 - 1e-9
    return count


@pytest.mark.heavy
def test_the_picture_is_there_and_of_a_readable_size(tmp_path: Path) -> None:
    for name, description, least in (("small", SMALL, (150, 500)), ("everything", EVERYTHING, (1000, 1500))):
        draw_network(parse(description), tmp_path / f"{name}.png")
        picture = imread(tmp_path / f"{name}.png")
        assert least[0] < picture.shape[0] < 4000
        assert least[1] < picture.shape[1] < 4000
        assert 0.02 < (picture[..., :3] < 0.95).any(axis=2).mean() < 0.6  # neither empty nor full
        assert overlaps(parse(description)) == 0
        (edges := picture.copy())[5:-5, 5:-5] = 1
        assert (edges[..., :3] == 1).all()  # nothing runs out of the picture


@pytest.mark.heavy
def test_the_picture_says_all_there_is(tmp_path: Path) -> None:
    draw_network(parse(EVERYTHING), tmp_path / "net.svg")
    assert (tmp_path / "net.svg").stat().st_size > 10_000
    main, tower, own = panels(parse(EVERYTHING))
    assert main.boxes["embedding words"].lines == ("words", "embedding 40 × 6", "shared by 2 inputs")
    assert main.boxes["title"].lines == ("title", "text, attention of 3 words", "[B, 6]")
    assert main.boxes["past"].lines == ("past", "sequence, 5 values", "[B, 5, 4]")
    assert main.boxes["spent"].lines == ("spent", "numeric, standardised", "[B, 3]")
    assert main.boxes["left"].lines == ("left", "network, tower", "[B, 8]")
    assert main.boxes["hidden"].lines == ("hidden", "dense, tanh, dropout 0.2", "[B, 7]")
    assert main.boxes["value"].lines == ("value", "q, 3 actions", "huber × 1")
    assert main.boxes["topic"].lines == ("topic", "class, 2 classes", "cross_entropy × 0.5")
    assert ("embedding words", "body") in main.edges
    assert ("history", "topic") in main.edges
    assert tower.title == "network tower, shared by left, right"
    assert tower.boxes["out"].lines == ("out", "residual, 5 inside", "[B, 8]", "returned")
    assert own.title == "network of node own"
    assert main.columns["value"] == main.columns["topic"] == max(main.columns.values())


def test_depth_is_the_longest_way() -> None:
    assert depths("dbca", [("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")]) == {"a": 0, "b": 1, "c": 2, "d": 1}


def test_lines_are_uncrossed_where_they_can_be() -> None:
    columns = {"a": 0, "b": 0, "x": 1, "y": 1, "end": 2}
    edges = [("a", "y"), ("b", "x"), ("x", "end"), ("y", "end"), ("a", "end")]
    assert crossings([["a", "b"], ["x", "y"]], edges[:2]) == 1
    layout = arrange(columns, edges, dict.fromkeys(columns, 1.0), gap=0.5)
    assert (layout.y["a"] < layout.y["b"]) == (layout.y["y"] < layout.y["x"])
    (passing,) = layout.routes["a", "end"]  # keeps the gap from both boxes of the column it passes
    assert min(abs(passing - layout.y[name]) for name in "xy") >= 1.0 - 1e-9
    assert min(y - 0.5 for y in layout.y.values()) >= 0


def test_drawing_twice_gives_the_same_picture(tmp_path: Path) -> None:
    draw_network(parse(SMALL), tmp_path / "a.png")
    draw_network(parse(SMALL), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
