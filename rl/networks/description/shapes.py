"""The shape of every activation of a description, and what is wrong where shapes do not fit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rl.networks.description.graph import (
    check_all_used,
    check_known,
    distinct,
    order,
)
from rl.networks.description.inputs import (
    Embedding,
    Input,
    NetworkError,
    NumericInput,
)
from rl.networks.description.nodes import (
    AddNode,
    AttentionNode,
    ConcatenateNode,
    DenseNode,
    NetworkNode,
    Node,
    PoolNode,
    ResidualNode,
    SubNetwork,
    sources,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Of an activation: [B, width], or [B, length, width] for a sequence."""

    width: int
    length: int | None = None

    def __str__(self) -> str:
        return f"[B, {self.width}]" if self.length is None else f"[B, {self.length}, {self.width}]"


def input_shape(name: str, node: Input, embeddings: Mapping[str, Embedding]) -> Shape:
    """Return the shape of what an input gives."""
    if isinstance(node, NumericInput):
        return Shape(node.width)
    check_known(node.embedding, embeddings, f"inputs.{name}.embedding", "embedding")
    width = embeddings[node.embedding].width
    return Shape(width, node.length) if node.kind in ("text", "sequence") and node.pool == "none" else Shape(width)


def shapes(
    nodes: Mapping[str, Node], given: Mapping[str, Shape], networks: Mapping[str, SubNetwork], at: str = ""
) -> dict[str, Shape]:
    """Return the shape of what is given and of every node, in the order in which they are computed.

    Raises:
        NetworkError: an unknown name, a cycle, or shapes that do not fit.
    """
    result = dict(given)
    for name in order(nodes, given, at):
        node = nodes[name]
        result[name] = _shape(node, {source: result[source] for source in sources(node)}, networks, f"{at}nodes.{name}")
    return result


def _shape(node: Node, read: Mapping[str, Shape], networks: Mapping[str, SubNetwork], at: str) -> Shape:
    """Return the shape of a node that reads these."""
    first = read[sources(node)[0]]
    match node:
        case DenseNode():
            return Shape(node.width, first.length)
        case ResidualNode():
            return first
        case ConcatenateNode():
            if len({shape.length for shape in read.values()}) > 1:
                raise NetworkError(
                    f"{at}: cannot lay {_format_shapes(read)} side by side; all vectors or sequences of one length"
                )
            return Shape(sum(read[source].width for source in node.inputs), first.length)
        case AddNode():
            if len(set(read.values())) > 1:
                raise NetworkError(f"{at}: cannot add {_format_shapes(read)}; they must have one shape")
            return first
        case AttentionNode() | PoolNode():
            if first.length is None:
                raise NetworkError(
                    f'{at}: needs a sequence, got {_format_shapes(read)}; an input with pool = "none" gives one'
                )
            if isinstance(node, PoolNode):
                return Shape(first.width)
            if first.width % node.heads:
                raise NetworkError(f"{at}: {node.heads} heads cannot share a width of {first.width}; it must divide")
            return first
        case NetworkNode():
            return _network_shape(node, read, networks, at)


def _network_shape(node: NetworkNode, read: Mapping[str, Shape], networks: Mapping[str, SubNetwork], at: str) -> Shape:
    network = node.network if isinstance(node.network, SubNetwork) else networks[node.network]
    if node.inputs.keys() != network.inputs.keys():
        raise NetworkError(f"{at}.inputs: the network takes {_list(network.inputs)}, got {_list(node.inputs)}")
    for port, source in node.inputs.items():
        if read[source] != (wanted := Shape(network.inputs[port])):
            raise NetworkError(
                f"{at}.inputs.{port}: the network takes {wanted}, got {_format_shapes({source: read[source]})}"
            )
    inside = at + ".network." if isinstance(node.network, SubNetwork) else f"networks.{node.network}."
    return subnetwork_shapes(network, networks, inside)[network.returns]


def subnetwork_shapes(network: SubNetwork, networks: Mapping[str, SubNetwork], at: str) -> dict[str, Shape]:
    """Return the shape of every input and node of a network within a network, after checking it whole.

    Raises:
        NetworkError: a name given twice or unknown, a cycle, shapes that do not fit, a node that is of no use.
    """
    distinct({"inputs": network.inputs, "nodes": network.nodes}, at)
    inside = shapes(network.nodes, {port: Shape(wide) for port, wide in network.inputs.items()}, networks, at)
    check_known(network.returns, network.nodes, f"{at}returns", "node")
    check_all_used({"inputs": network.inputs, "nodes": network.nodes}, network.nodes, [network.returns], at)
    return inside


def _format_shapes(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
