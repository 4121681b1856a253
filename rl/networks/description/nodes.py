"""What a network computes: inner nodes, networks within a network, outputs; as data."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveInt

from rl.networks.description.inputs import (
    Described,
    Name,
    Pool,
    Several,
    count,
)

Activate = Literal["none", "relu", "gelu", "tanh", "sigmoid"]
Dropout = Annotated[float, Field(ge=0, lt=1, description="share of values that a training step leaves out")]
Source = Annotated[str, Field(description="name of an input or of an inner node")]


class DenseNode(Described):
    """activation(norm(W x + b)), then dropout; of a sequence at each position."""

    kind: Literal["dense"] = "dense"
    input: Source
    width: PositiveInt
    activation: Activate = "relu"
    layer_norm: bool = False
    dropout: Dropout = 0.0


class ResidualNode(Described):
    """x + W₂ activation(W₁ norm(x)); as wide as what it reads."""

    kind: Literal["residual"] = "residual"
    input: Source
    hidden: Annotated[PositiveInt, Field(description="width between W₁ and W₂")]
    activation: Activate = "relu"
    layer_norm: bool = True
    dropout: Dropout = 0.0


class ConcatenateNode(Described):
    """Vectors, or sequences of one length, side by side."""

    kind: Literal["concatenate"] = "concatenate"
    inputs: Annotated[tuple[str, ...], Field(min_length=2, description="names of inputs or inner nodes")]


class AddNode(Described):
    """The sum of vectors, or of sequences, of one shape."""

    kind: Literal["add"] = "add"
    inputs: Annotated[tuple[str, ...], Field(min_length=2, description="names of inputs or inner nodes")]


class AttentionNode(Described):
    """A transformer block over a sequence: self-attention, then a residual block; both normalise what they read."""

    kind: Literal["attention"] = "attention"
    input: Source
    heads: Annotated[PositiveInt, Field(description="must divide the width")] = 2
    hidden: Annotated[PositiveInt, Field(description="width of the residual block")] = 64
    dropout: Dropout = 0.0


class PoolNode(Described):
    """A sequence as one vector."""

    kind: Literal["pool"] = "pool"
    input: Source
    pool: Pool = "mean"


class NetworkNode(Described):
    """A network as a node: one of the description's `networks` by its name, or one written here."""

    kind: Literal["network"] = "network"
    network: Annotated[
        "str | SubNetwork", Field(description="by name: its weights are shared with whoever names it too")
    ]
    inputs: Annotated[dict[Name, str], Field(min_length=1, description="for each of its inputs, what is fed to it")]


Node: TypeAlias = Annotated[
    DenseNode | ResidualNode | ConcatenateNode | AddNode | AttentionNode | PoolNode | NetworkNode,
    Field(discriminator="kind"),
]
"""Any inner node, told apart by its `kind`."""


class SubNetwork(Described):
    """A network to be used as a node: vectors in, the activation of one of its nodes out."""

    inputs: Annotated[dict[Name, PositiveInt], Field(min_length=1, description="width of each vector it takes")]
    nodes: Annotated[dict[Name, Node], Field(min_length=1)]
    returns: Annotated[str, Field(description="name of the inner node whose activation it gives")]


Weight = Annotated[float, Field(ge=0, description="of this loss in the sum; 0: reported but not learned")]


class QOutput(Described):
    """A value for every action, [B, actions]. Its loss is that of the action taken."""

    kind: Literal["q"] = "q"
    input: Source
    actions: Annotated[Several, Field(description="how many, or their names")]
    loss: Literal["huber", "mse"] = "huber"
    weight: Weight = 1.0


class BinaryOutput(Described):
    """The log-odds of yes, [B]."""

    kind: Literal["binary"] = "binary"
    input: Source
    loss: Literal["cross_entropy"] = "cross_entropy"
    weight: Weight = 1.0


class ClassOutput(Described):
    """One of several classes: their logits, [B, classes]."""

    kind: Literal["class"] = "class"
    input: Source
    classes: Annotated[Several, Field(description="how many, or their names")]
    loss: Literal["cross_entropy"] = "cross_entropy"
    weight: Weight = 1.0


class RegressionOutput(Described):
    """A number, [B]."""

    kind: Literal["regression"] = "regression"
    input: Source
    loss: Literal["mse", "huber", "mae"] = "mse"
    weight: Weight = 1.0


Output: TypeAlias = Annotated[QOutput | BinaryOutput | ClassOutput | RegressionOutput, Field(discriminator="kind")]
"""Any output, told apart by its `kind`."""

NetworkNode.model_rebuild()


def sources(node: Node) -> tuple[str, ...]:
    """Return the names of the nodes that one reads, in its own order."""
    match node:
        case ConcatenateNode() | AddNode():
            return node.inputs
        case NetworkNode():
            return tuple(node.inputs.values())
        case _:
            return (node.input,)


def width(output: Output) -> int:
    """Return how many numbers an output gives for a row."""
    match output:
        case QOutput():
            return count(output.actions)
        case ClassOutput():
            return count(output.classes)
        case _:
            return 1
