"""What the picture of a network shows: boxes with their lines of text, and what leads where."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from rl.networks.description.description import NetworkDescription
from rl.networks.description.inputs import (
    Embedding,
    Input,
    NumericInput,
    SequenceInput,
    TagsInput,
    TextInput,
)
from rl.networks.description.nodes import (
    AttentionNode,
    DenseNode,
    NetworkNode,
    Node,
    Output,
    PoolNode,
    ResidualNode,
    SubNetwork,
    sources,
    width,
)
from rl.networks.description.shapes import Shape, subnetwork_shapes
from rl.networks.drawing.layout import Edge, depths

Role = Literal["embedding", "input", "node", "network", "output"]


@dataclass(frozen=True)
class Box:
    """A node as it is drawn."""

    role: Role
    lines: tuple[str, ...]
    """Its name first."""


@dataclass(frozen=True)
class Panel:
    """The graph of one network."""

    title: str
    boxes: dict[str, Box]
    columns: dict[str, int]
    edges: list[Edge]


def panels(description: NetworkDescription) -> list[Panel]:
    """Return the network's panel, then one for every network within it."""
    shapes = description.shapes()
    first = _inside(description.inputs, description.nodes, shapes)
    boxes = {
        name: Box("input", (name, _told_input(node), str(shapes[name]))) for name, node in _list_inputs(description)
    }
    boxes |= first.boxes
    columns, edges = {name: at + 1 for name, at in first.columns.items()}, list(first.edges)
    last = max(columns.values()) + 1
    for name, output in description.outputs.items():
        boxes[name] = Box("output", (name, _told_output(output), f"{output.loss} × {output.weight:g}"))
        columns[name] = last
        edges.append((output.input, name))
    for name, table in description.embeddings.items():
        readers = description.readers(name)
        box = f"embedding {name}"  # an input may have the table's name
        boxes[box], columns[box] = Box("embedding", _told_embedding(name, table, len(readers))), 0
        edges += [(box, reader) for reader in readers]
    if not description.embeddings:
        columns = {name: at - 1 for name, at in columns.items()}
    return [Panel("network", boxes, columns, edges), *_within(description)]


def _list_inputs(description: NetworkDescription) -> list[tuple[str, Input]]:
    """Return the inputs in the order of their tables, so that lines from one table run side by side."""
    tables = list(description.embeddings)
    return sorted(
        description.inputs.items(),
        key=lambda item: len(tables) if isinstance(item[1], NumericInput) else tables.index(item[1].embedding),
    )


def _within(description: NetworkDescription) -> Iterator[Panel]:
    users = dict[str, list[str]]()
    todo: list[tuple[str, Mapping[str, Node]]] = [("", description.nodes)]
    todo += [(f"{name}.", network.nodes) for name, network in description.networks.items()]
    written_here = list[tuple[str, SubNetwork]]()
    for at, nodes in todo:  # grows by the networks that are found within
        for name, node in nodes.items():
            if isinstance(node, NetworkNode):
                if isinstance(node.network, SubNetwork):
                    written_here.append((at + name, node.network))
                    todo.append((f"{at}{name}.", node.network.nodes))
                else:
                    users.setdefault(node.network, []).append(at + name)
    for name, network in description.networks.items():
        shared = "shared by" if len(users[name]) > 1 else "used by"
        yield _subpanel(f"network {name}, {shared} {', '.join(users[name])}", network, description)
    for name, network in written_here:
        yield _subpanel(f"network of node {name}", network, description)


def _subpanel(title: str, network: SubNetwork, description: NetworkDescription) -> Panel:
    shapes = subnetwork_shapes(network, description.networks, "")
    inside = _inside(network.inputs, network.nodes, shapes)
    boxes = {name: Box("input", (name, "given", str(shapes[name]))) for name in network.inputs} | inside.boxes
    boxes[network.returns] = Box("output", (*inside.boxes[network.returns].lines, "returned"))
    return Panel(title, boxes, inside.columns, inside.edges)


def _inside(inputs: Mapping[str, object], nodes: Mapping[str, Node], shapes: Mapping[str, Shape]) -> Panel:
    """Return the boxes of the inner nodes, and columns and edges of them and of the inputs."""
    edges = list({(source, name): None for name, node in nodes.items() for source in sources(node)})
    boxes = {name: Box(*_told_node(name, node, shapes[name])) for name, node in nodes.items()}
    return Panel("", boxes, depths([*inputs, *nodes], edges), edges)


def _told_embedding(name: str, table: Embedding, readers: int) -> tuple[str, ...]:
    lines = (name, f"embedding {table.size} × {table.width}")
    return (*lines, f"shared by {readers} inputs") if readers > 1 else lines


def _told_input(node: Input) -> str:
    match node:
        case TextInput() | SequenceInput() | TagsInput():
            unit = {"text": "words", "sequence": "values", "tags": "tags"}[node.kind]
            of = f"{node.length} {unit}" if node.pool == "none" else f"{node.pool} of {node.length} {unit}"
            return f"{node.kind}, {of}"
        case NumericInput(standardise=True):
            return "numeric, standardised"
        case _:
            return node.kind


def _told_node(name: str, node: Node, shape: Shape) -> tuple[Role, tuple[str, ...]]:
    match node:
        case DenseNode():
            more = [node.activation] * (node.activation != "none") + ["norm"] * node.layer_norm
        case ResidualNode():
            more = [f"{node.hidden} inside"]
        case AttentionNode():
            more = [f"{node.heads} heads"]
        case PoolNode():
            more = [node.pool]
        case NetworkNode():
            more = [] if isinstance(node.network, SubNetwork) else [node.network]
        case _:
            more = []
    if isinstance(node, DenseNode | ResidualNode | AttentionNode) and node.dropout > 0:
        more.append(f"dropout {node.dropout:g}")
    role: Role = "network" if isinstance(node, NetworkNode) else "node"
    return role, (name, ", ".join([node.kind, *more]), str(shape))


def _told_output(output: Output) -> str:
    unit = {"q": "actions", "class": "classes"}.get(output.kind)
    return f"{output.kind}, {width(output)} {unit}" if unit else output.kind
