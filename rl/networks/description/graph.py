"""The graph of a description: in which order nodes are computed, and whether all are reached.

Everything raises `NetworkError` with the place in the description as TOML writes it, such as `nodes.hidden.input`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from rl.networks.description.inputs import NetworkError
from rl.networks.description.nodes import (
    NetworkNode,
    Node,
    SubNetwork,
    sources,
)


def check_known(name: str, among: Collection[str], at: str, what: str) -> None:
    """Refuse a name that nothing has."""
    if name not in among:
        raise NetworkError(f"{at}: no {what} is named {name!r}; there are: {', '.join(among) or 'none'}")


def order(nodes: Mapping[str, Node], given: Collection[str], at: str = "") -> tuple[str, ...]:
    """Return the names of the nodes, each after those that it reads.

    Raises:
        NetworkError: a node reads one that does not exist, or itself by way of others.
    """
    for name, node in nodes.items():
        for source in sources(node):
            check_known(source, [*given, *nodes], f"{at}nodes.{name}", "input or node")
    return _sort(nodes, lambda name: [source for source in sources(nodes[name]) if source in nodes], f"{at}nodes")


def network_order(networks: Mapping[str, SubNetwork]) -> tuple[str, ...]:
    """Return the names of the networks, each after those that it contains.

    Raises:
        NetworkError: a network names one that does not exist, or contains itself.
    """
    return _sort(
        networks, lambda name: list(_list_names(networks[name].nodes, networks, f"networks.{name}.")), "networks"
    )


def _list_names(nodes: Mapping[str, Node], networks: Collection[str], at: str) -> Iterable[str]:
    """Yield the names of the networks that nodes use, also those inside networks written in place."""
    for name, node in nodes.items():
        if isinstance(node, NetworkNode):
            if isinstance(node.network, SubNetwork):
                yield from _list_names(node.network.nodes, networks, f"{at}nodes.{name}.network.")
            else:
                check_known(node.network, networks, f"{at}nodes.{name}.network", "network")
                yield node.network


def list_networks(nodes: Mapping[str, Node], networks: Mapping[str, SubNetwork]) -> set[str]:
    """Return the names of the networks that nodes use, directly or by way of other networks."""
    used = set(_list_names(nodes, networks, ""))
    for name in reversed(network_order(networks)):
        if name in used:
            used |= set(_list_names(networks[name].nodes, networks, f"networks.{name}."))
    return used


def _sort(names: Iterable[str], before: Callable[[str], list[str]], at: str) -> tuple[str, ...]:
    try:
        return tuple(TopologicalSorter({name: before(name) for name in names}).static_order())
    except CycleError as error:
        raise NetworkError(
            f"{at}: {' -> '.join(error.args[1])} is a cycle; one of them must not read the other"
        ) from error


def distinct(sections: Mapping[str, Collection[str]], at: str = "") -> None:
    """Refuse a name that two sections have."""
    seen = dict[str, str]()
    for section, names in sections.items():
        for name in names:
            if name in seen:
                raise NetworkError(f"{at}{section}.{name}: {at}{seen[name]}.{name} has this name already")
            seen[name] = section


def check_all_used(
    sections: Mapping[str, Collection[str]], nodes: Mapping[str, Node], ends: Iterable[str], at: str = ""
) -> None:
    """Refuse an input or a node from which no way leads to one of the ends."""
    used, todo = set[str](), list(ends)
    while todo:
        name = todo.pop()
        if name not in used:
            used.add(name)
            todo += sources(nodes[name]) if name in nodes else ()
    for section, names in sections.items():
        if unused := [name for name in names if name not in used]:
            raise NetworkError(f"{at}{section}.{unused[0]}: leads to no output; connect it or leave it out")
