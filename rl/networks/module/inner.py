"""The inner nodes of a network as one torch module, which can contain others of its kind."""

from collections.abc import Mapping

from torch import nn

from rl.networks.description.graph import order
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
from rl.networks.description.shapes import Shape, subnetwork_shapes
from rl.networks.module.layers import (
    Activation,
    Attention,
    Dense,
    Pooled,
    Residual,
    add,
    concatenate,
)


def key(name: str) -> str:
    """Return the name under which torch keeps a part: `items` or `type` alone are its own."""
    return f"node_{name}"


class Inner(nn.Module):
    """The inner nodes of a network, or of a network within a network."""

    def __init__(
        self, nodes: Mapping[str, Node], shapes: Mapping[str, Shape], networks: Mapping[str, SubNetwork]
    ) -> None:
        super().__init__()
        self.nodes, self.returns = nodes, {name: network.returns for name, network in networks.items()}
        self.order = order(nodes, shapes)
        self.parts = nn.ModuleDict()
        for name in self.order:
            if part := _part(nodes[name], [shapes[source] for source in sources(nodes[name])], networks):
                self.parts[key(name)] = part

    def forward(self, given: dict[str, Activation], networks: nn.ModuleDict) -> dict[str, Activation]:
        """Return what is given with the activation of every node; those within node `left` are named `left.hidden`."""
        values = dict(given)
        for name in self.order:
            node = self.nodes[name]
            match node:
                case ConcatenateNode():
                    values[name] = concatenate([values[source] for source in node.inputs])
                case AddNode():
                    values[name] = add([values[source] for source in node.inputs])
                case NetworkNode():
                    fed = {port: values[source] for port, source in node.inputs.items()}
                    if isinstance(node.network, SubNetwork):
                        inside, returns = self.parts[key(name)](fed, networks), node.network.returns
                    else:
                        inside = networks[key(node.network)](fed, networks)
                        returns = self.returns[node.network]
                    values |= {f"{name}.{inner}": value for inner, value in inside.items()}
                    values[name] = inside[returns]
                case _:
                    values[name] = self.parts[key(name)](values[node.input])
        return values


def _part(node: Node, read: list[Shape], networks: Mapping[str, SubNetwork]) -> nn.Module | None:
    """Return the module of a node that has weights of its own."""
    match node:
        case DenseNode():
            return Dense(node, read[0].width)
        case ResidualNode():
            return Residual(node, read[0].width)
        case AttentionNode():
            return Attention(node, read[0].width)
        case PoolNode():
            return Pooled(node.pool, read[0].width)
        case NetworkNode() if isinstance(node.network, SubNetwork):
            return Inner(node.network.nodes, subnetwork_shapes(node.network, networks, ""), networks)
        case _:
            return None
