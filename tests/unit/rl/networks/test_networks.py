"""Networks: layers against numbers worked out by hand, what is shared, what goes in and comes out."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rl.networks import (
    NetworkError,
    Training,
    build,
    fit,
    parse,
)
from rl.networks.description.nodes import AttentionNode, ResidualNode
from rl.networks.module.layers import (
    Activation,
    Attention,
    Pooled,
    Residual,
    add,
    concatenate,
)
from tests.support.networks import assert_equal, straight

NAN = float("nan")
SHARED: dict[str, Any] = {
    "embeddings": {"words": {"values": 6, "width": 3}},
    "networks": {
        "tower": {
            "inputs": {"x": 3},
            "nodes": {"hidden": {"kind": "dense", "input": "x", "width": 4, "activation": "tanh"}},
            "returns": "hidden",
        }
    },
    "inputs": {
        "title": {"kind": "text", "embedding": "words", "length": 2},
        "body": {"kind": "text", "embedding": "words", "length": 4},
    },
    "nodes": {
        "left": {"kind": "network", "network": "tower", "inputs": {"x": "title"}},
        "right": {"kind": "network", "network": "tower", "inputs": {"x": "body"}},
        "both": {"kind": "add", "inputs": ["left", "right"]},
    },
    "outputs": {"click": {"kind": "binary", "input": "both"}},
}
TEXTS = {"title": torch.tensor([[1, 2], [3, 0]]), "body": torch.tensor([[1, 2, 0, 0], [4, 4, 5, 0]])}


# Layers


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("mean", [[2.0, 3.0], [0.0, 0.0], [5.0, 6.0]]),
        ("sum", [[4.0, 6.0], [0.0, 0.0], [5.0, 6.0]]),
        ("last", [[3.0, 4.0], [0.0, 0.0], [5.0, 6.0]]),
    ],
)
def test_pooling_leaves_padding_out(how: str, wanted: list[list[float]]) -> None:
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], [[9.0, 9.0]] * 3, [[9.0, 9.0], [5.0, 6.0], [9.0, 9.0]]])
    present = torch.tensor([[True, True, False], [False] * 3, [False, True, False]])
    assert_equal(Pooled(how, 2)(Activation(x, present)).x, wanted)


def test_attention_pooling_weighs_by_the_softmax_of_a_learned_query() -> None:
    pool = Pooled("attention", 1)
    assert pool.query is not None
    x = torch.tensor([[[0.0], [math.log(3.0)], [50.0]], [[7.0]] * 3])
    present = torch.tensor([[True, True, False], [False] * 3])
    nn.init.ones_(pool.query)  # logits 0 and ln 3: weights 1/4 and 3/4
    pooled = pool(Activation(x, present)).x
    assert_equal(pooled, [[0.75 * math.log(3.0)], [0.0]])
    torch.autograd.backward(pooled.sum())
    assert pool.query.grad is not None
    assert pool.query.grad.isfinite().all()


@pytest.mark.parametrize("norm", [True, False])
def test_a_residual_block_without_weights_changes_nothing(norm: bool) -> None:
    block = Residual(ResidualNode(input="x", hidden=5, layer_norm=norm), 3)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(block(Activation(x)).x, x)
    nn.init.zeros_(block.outer.weight)
    nn.init.zeros_(block.outer.bias)
    assert torch.equal(block(Activation(x)).x, x)


def test_a_residual_block_adds_what_it_computes() -> None:
    block = Residual(ResidualNode(input="x", hidden=1, layer_norm=False), 2)
    for layer, weight, bias in ((block.inner, [[1.0, -2.0]], [0.5]), (block.outer, [[3.0], [4.0]], [0.0, 1.0])):
        assert isinstance(layer, nn.Linear)
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    x = torch.tensor([[2.0, 1.0], [0.0, 1.0]])  # relu(2 - 2 + .5) = .5; relu(0 - 2 + .5) = 0
    assert_equal(block(Activation(x)).x, [[3.5, 4.0], [0.0, 2.0]])


def test_a_transformer_block_is_softmax_attention_over_what_is_there() -> None:
    torch.manual_seed(0)
    block = Attention(AttentionNode(input="x", heads=2, hidden=3), 4).eval()
    nn.init.zeros_(block.feed.outer.weight)
    nn.init.zeros_(block.feed.outer.bias)
    x, present = torch.randn(1, 3, 4), torch.tensor([[True, True, False]])
    with torch.no_grad():
        q, k, v = block.project(block.norm(x))[0].split(4, dim=1)  # each [T, W]
        heads = []
        for part in (slice(0, 2), slice(2, 4)):
            logits = q[:, part] @ k[:2, part].T / math.sqrt(2)  # the third place is empty
            heads.append(logits.softmax(dim=1) @ v[:2, part])
        wanted = x[0] + block.outer(torch.cat(heads, dim=1))
        given = block(Activation(x, present))
    assert_equal(given.x[0], wanted)
    assert torch.equal(given.present, present)


def test_a_transformer_block_stays_finite_where_nothing_is_there() -> None:
    torch.manual_seed(0)
    block = Attention(AttentionNode(input="x", heads=2, hidden=3), 4)
    x = torch.randn(2, 3, 4, requires_grad=True)
    pooled = Pooled("mean", 4)(block(Activation(x, torch.tensor([[True] * 3, [False] * 3])))).x
    torch.autograd.backward(pooled.sum())
    assert_equal(pooled[1], [0.0] * 4)
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_sequences_side_by_side_are_there_where_any_is() -> None:
    one = Activation(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[True, False]]))
    other = Activation(torch.tensor([[[3.0], [4.0]]]), torch.tensor([[False, False]]))
    for joined, wanted in (
        (concatenate([one, other]), [[[1.0, 3.0], [2.0, 4.0]]]),
        (add([one, other]), [[[4.0], [6.0]]]),
    ):
        assert_equal(joined.x, wanted)
        assert joined.present is not None
        assert joined.present.tolist() == [[True, False]]


def test_numbers_are_standardised_by_the_first_data_and_gaps_are_the_mean() -> None:
    description = straight(y={"kind": "regression"})
    description["inputs"]["x"] |= {"width": 3, "standardise": True}
    network = build(parse(description))
    x = torch.tensor([[1.0, 7.0, NAN], [3.0, 7.0, 2.0], [5.0, 7.0, 4.0]])  # deviations √(8/3), 0, 1
    network.standardise({"x": x})
    wanted = [[-math.sqrt(1.5), 0.0, 0.0], [0.0, 0.0, -1.0], [math.sqrt(1.5), 0.0, 1.0]]
    assert_equal(network.features({"x": x}, "x"), wanted)
    network.standardise({"x": x + 100})
    assert_equal(network.features({"x": x}, "x"), wanted)


def test_a_column_without_numbers_cannot_be_standardised() -> None:
    description = straight(y={"kind": "regression"})
    description["inputs"]["x"]["standardise"] = True
    with pytest.raises(NetworkError, match=r"inputs\.x: column 1 has no value to standardise by"):
        build(parse(description)).standardise({"x": torch.tensor([[1.0, NAN], [2.0, NAN]])})


@pytest.mark.heavy
def test_id_0_is_a_zero_vector_that_is_not_learned() -> None:
    network = build(parse(SHARED))
    table = network.get_parameter("embeddings.node_words.weight")
    assert_equal(network.features({name: ids * 0 for name, ids in TEXTS.items()}, "body"), [[0.0] * 3] * 2)
    fit(network, TEXTS, {"click": torch.tensor([0.0, 1.0])}, Training(epochs=3))
    assert_equal(table[0], [0.0] * 3)


def test_learned_positions_tell_orders_apart() -> None:
    inputs = {"title": {"kind": "text", "embedding": "words", "length": 2}, "body": SHARED["inputs"]["body"]}
    ids = {"title": torch.tensor([[1, 2], [2, 1]]), "body": torch.tensor([[1, 2, 0, 0], [2, 1, 0, 0]])}
    inputs["body"] = inputs["body"] | {"positions": True}
    network = build(parse(SHARED | {"inputs": inputs}))
    title, body = network.features(ids, "title"), network.features(ids, "body")
    assert_equal(title[0], title[1])
    places = network.get_parameter("inputs.node_body.places")
    assert_equal(body[0], title[0] + places[:2].mean(dim=0))
    assert_equal(body[0], body[1])  # the mean of sums is blind to it: other pools are not
    attention = inputs["body"] | {"pool": "attention"}
    body = build(parse(SHARED | {"inputs": inputs | {"body": attention}})).features(ids, "body")
    assert not torch.allclose(body[0], body[1])


# What is shared


def test_a_shared_table_is_one_parameter_with_both_gradients() -> None:
    network = build(parse(SHARED))
    assert [name for name, _ in network.named_parameters() if "embeddings" in name] == ["embeddings.node_words.weight"]
    table = network.get_parameter("embeddings.node_words.weight")

    def gradient(*nodes: str) -> Tensor:
        network.zero_grad()
        torch.autograd.backward(torch.stack([network.features(TEXTS, node).sum() for node in nodes]).sum())
        assert table.grad is not None
        return table.grad.clone()

    # of the sum of a mean: 1 / n for each of the n words, in each of the 3 columns
    title = [0, 1 / 2, 1 / 2, 1, 0, 0]
    body = [0, 1 / 2, 1 / 2, 0, 2 / 3, 1 / 3]
    assert_equal(gradient("title")[:, 0], torch.tensor(title))
    assert_equal(gradient("body")[:, 2], torch.tensor(body))
    assert_equal(gradient("title", "body"), (torch.tensor(title) + torch.tensor(body))[:, None].expand(6, 3))


def test_a_network_used_twice_has_its_weights_once() -> None:
    network = build(parse(SHARED))
    inside = [name for name, _ in network.named_parameters() if "hidden" in name]
    prefix = "networks.node_tower.parts.node_hidden.linear"
    assert inside == [f"{prefix}.weight", f"{prefix}.bias"]
    left, right = network.features(TEXTS, "left"), network.features(TEXTS, "right")
    assert torch.equal(left[0], right[0])  # the same words
    assert not torch.allclose(left[1], right[1])
    weight = network.get_parameter(f"{prefix}.weight")
    parts = [torch.autograd.grad(network.features(TEXTS, node).sum(), weight)[0] for node in ("left", "right", "both")]
    assert_equal(parts[0] + parts[1], parts[2])


def test_a_network_written_in_place_has_weights_of_its_own() -> None:
    tower = SHARED["networks"]["tower"]
    nodes = SHARED["nodes"] | {"right": {"kind": "network", "network": tower, "inputs": {"x": "body"}}}
    network = build(parse(SHARED | {"nodes": nodes}))
    assert not torch.allclose(network.features(TEXTS, "left")[0], network.features(TEXTS, "right")[0])
    assert sum("hidden" in name for name, _ in network.named_parameters()) == 4


def test_networks_can_be_within_networks_within_networks() -> None:
    outer = {
        "inputs": {"z": 3},
        "nodes": {
            "inner": {"kind": "network", "network": "tower", "inputs": {"x": "z"}},
            "wide": {"kind": "dense", "input": "inner", "width": 5},
        },
        "returns": "wide",
    }
    nodes = {
        "left": {"kind": "network", "network": "outer", "inputs": {"z": "title"}},
        "right": {"kind": "network", "network": "tower", "inputs": {"x": "body"}},
        "both": {"kind": "concatenate", "inputs": ["left", "right"]},
    }
    network = build(parse(SHARED | {"networks": {"outer": outer, **SHARED["networks"]}, "nodes": nodes}))
    assert network.features(TEXTS, "left").shape == (2, 5)
    assert torch.equal(network.features(TEXTS, "left.inner.hidden")[0], network.features(TEXTS, "right")[0])


@pytest.mark.parametrize("name", ["items", "type", "forward", "requires_grad", "weight"])
def test_names_that_torch_has_taken_can_be_given(name: str) -> None:
    description = {
        "embeddings": {name: {"values": 4, "width": 2}},
        "inputs": {"x": {"kind": "categorical", "embedding": name}},
        "nodes": {name: {"kind": "dense", "input": "x", "width": 2}},
        "outputs": {"y": {"kind": "binary", "input": name}},
    }
    assert build(parse(description))({"x": torch.tensor([1, 2])})["y"].shape == (2,)


# What goes in and comes out


def test_outputs_follow_from_features() -> None:
    network = build(parse(SHARED))
    both = network.features(TEXTS, "both")
    assert_equal(
        both,
        network.features(TEXTS, "left") + network.features(TEXTS, "left.hidden") * 0 + network.features(TEXTS, "right"),
    )
    head = network.heads["node_click"]
    assert torch.equal(network(TEXTS)["click"], head(both)[:, 0])


def test_predictions_are_probabilities_and_leave_the_mode() -> None:
    network = build(
        parse(
            straight(
                click={"kind": "binary"},
                topic={"kind": "class", "classes": 3},
                value={"kind": "q", "actions": 2},
                rating={"kind": "regression"},
            )
        )
    )
    x = {"x": torch.tensor([[1.0, -2.0], [0.5, 3.0]])}
    network.train()
    raw, read = network(x), network.predict(x)
    assert network.training
    assert {name: tuple(t.shape) for name, t in read.items()} == {
        "click": (2,),
        "topic": (2, 3),
        "value": (2, 2),
        "rating": (2,),
    }
    assert_equal(read["click"], 1 / (1 + torch.exp(-raw["click"].detach())))
    assert_equal(read["topic"].sum(dim=1), [1.0, 1.0])
    assert_equal(read["topic"].log() - raw["topic"].detach().log_softmax(dim=1), torch.zeros(2, 3))
    assert torch.equal(read["value"], raw["value"])
    assert not read["rating"].requires_grad


def test_an_unknown_feature_is_named() -> None:
    with pytest.raises(NetworkError, match=r"features: no node is named 'midle'; there are: title, .* left\.hidden"):
        build(parse(SHARED)).features(TEXTS, "midle")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"title": TEXTS["title"]}, "inputs must be body, title, got title"),
        ({}, "inputs must be body, title, got none"),
        (TEXTS | {"more": TEXTS["title"]}, "inputs must be body, title, got body, more, title"),
        (
            {"title": TEXTS["body"], "body": TEXTS["body"]},
            r"inputs\.title: needs a torch\.int64 of shape \[B, 2\], got torch\.int64 \[2, 4\]",
        ),
        (TEXTS | {"title": TEXTS["title"][0]}, r"inputs\.title: .* \[2\]"),
        (TEXTS | {"title": TEXTS["title"].float()}, r"inputs\.title: .*got torch\.float32"),
    ],
)
def test_tensors_that_do_not_fit_are_named(inputs: dict[str, Tensor], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        build(parse(SHARED))(inputs)


def test_a_generator_seeds_as_well_and_goes_on() -> None:
    def weights(generator: torch.Generator) -> list[float]:
        return build(parse(SHARED), generator).get_parameter("heads.node_click.bias").tolist()

    one, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    first = weights(one)
    assert weights(other) == first
    assert weights(one) != first
