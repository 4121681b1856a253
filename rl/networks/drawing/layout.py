"""Where to draw the boxes of a graph: columns by depth, few crossings, short lines, no overlaps.

Source: Sugiyama, Tagawa and Toda, Methods for Visual Understanding of Hierarchical System Structures, 1981.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise

import numpy as np
from scipy.optimize import isotonic_regression

Edge = tuple[str, str]
_ORDER_SWEEPS, _PLACE_SWEEPS = 12, 60  # after which graphs that fit on a page hardly change


@dataclass(frozen=True)
class Layout:
    """Positions; columns count from 0 at the left, y grows downwards in the unit of the heights."""

    columns: dict[str, int]
    y: dict[str, float]
    """Of each node's middle."""
    routes: dict[Edge, list[float]] = field(default_factory=dict)
    """Of an edge, its y in every column strictly between its ends."""


def depths(nodes: Iterable[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Return the length of the longest way to each node."""
    before = {name: [source for source, target in edges if target == name] for name in nodes}
    depth = dict[str, int]()
    for name in TopologicalSorter(before).static_order():
        depth[name] = max((depth[source] + 1 for source in before[name]), default=0)
    return depth


def arrange(columns: Mapping[str, int], edges: Sequence[Edge], heights: Mapping[str, float], gap: float) -> Layout:
    """Place nodes within their columns.

    Args:
        columns: of each node; an edge leads to a later one.
        edges: without repeats.
        heights: of each node's box.
        gap: free space between two boxes; a passing line counts as a box without height.
    """
    stops = {
        edge: [f"{edge[0]} {edge[1]} {i}" for i in range(columns[edge[0]] + 1, columns[edge[1]])] for edge in edges
    }
    height, where = dict(heights), dict(columns)
    links: list[Edge] = []  # between neighbouring columns
    for (source, target), passed in stops.items():
        height |= dict.fromkeys(passed, 0.0)
        where |= {stop: columns[source] + 1 + i for i, stop in enumerate(passed)}
        way = [source, *passed, target]
        links += pairwise(way)
    layers = [[name for name in where if where[name] == i] for i in range(max(where.values()) + 1)]
    layers = _reduce_crossings(layers, links)
    y = _settle(layers, links, height, gap)
    top = min(y[name] - height[name] / 2 for name in y)
    return Layout(
        columns=dict(columns),
        y={name: y[name] - top for name in columns},
        routes={edge: [y[stop] - top for stop in passed] for edge, passed in stops.items()},
    )


def _reduce_crossings(layers: list[list[str]], links: Sequence[Edge]) -> list[list[str]]:
    """Order every column by the mean place of what its nodes are linked with, and keep the best of all tries."""
    best, fewest = layers, crossings(layers, links)
    for sweep in range(_ORDER_SWEEPS):
        layers = [list(layer) for layer in layers]
        forward = sweep % 2 == 0
        for i in range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1):
            place = {name: at for at, name in enumerate(layers[i - 1 if forward else i + 1])}
            linked = _list_linked(layers[i], links, place)
            wished = {name: float(np.mean(linked[name] or [at])) for at, name in enumerate(layers[i])}
            layers[i].sort(key=wished.__getitem__)
        if (count := crossings(layers, links)) < fewest:
            best, fewest = layers, count
    return best


def crossings(layers: Sequence[Sequence[str]], links: Sequence[Edge]) -> int:
    """Return how many pairs of links between neighbouring columns cross."""
    place = {name: (i, at) for i, layer in enumerate(layers) for at, name in enumerate(layer)}
    ends = [(place[a][0], place[a][1], place[b][1]) for a, b in links]
    return sum(
        one[0] == other[0] and (one[1] - other[1]) * (one[2] - other[2]) < 0
        for i, one in enumerate(ends)
        for other in ends[:i]
    )


def _settle(
    layers: Sequence[Sequence[str]], links: Sequence[Edge], height: Mapping[str, float], gap: float
) -> dict[str, float]:
    """Move every node towards the mean of what it is linked with, in the order of its column and without overlaps."""
    y, offsets = dict[str, float](), list[np.ndarray]()
    for layer in layers:
        heights = np.array([height[name] for name in layer])
        offsets.append(np.concatenate([[0.0], np.cumsum((heights[1:] + heights[:-1]) / 2 + gap)]))
        y |= dict(zip(layer, (offsets[-1] - offsets[-1][-1] / 2).tolist(), strict=True))
    for sweep in range(_PLACE_SWEEPS):
        for i in range(len(layers)) if sweep % 2 else reversed(range(len(layers))):
            linked = _list_linked(layers[i], links, y)
            wished = np.array([np.mean(linked[name] or [y[name]]) for name in layers[i]])
            # the nearest places, in least squares, with the order kept and neighbours an offset apart
            placed = isotonic_regression(wished - offsets[i]).x + offsets[i]
            y |= dict(zip(layers[i], placed.tolist(), strict=True))
    return y


def _list_linked(layer: Iterable[str], links: Sequence[Edge], value: Mapping[str, float]) -> dict[str, list[float]]:
    """Return the values of what every node is linked with, of those that have one."""
    found: dict[str, list[float]] = {name: [] for name in layer}
    for a, b in links:
        for one, other in ((a, b), (b, a)):
            if one in found and other in value:
                found[one].append(value[other])
    return found
