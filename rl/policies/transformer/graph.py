"""A Q network as an ONNX graph for one request, made in milliseconds. Needs onnx and torch.

It computes what `QNetwork.forward` does, for one row without padding, and begins where the weights' part ends: what
follows from them alone (`QNetwork.tables`) is a constant. `rl.policies.transformer.export` exports the network as it
is written, for any number of requests, which takes the exporter seconds of a core; a service that swaps policies has
not got them.

Axis names as in `rl.policies.transformer.network`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from rl.policies.transformer.network import Block, QNetwork

OPSET, IR_VERSION = 18, 9
EPSILON = 1e-5  # of torch's layer normalisation


class _Graph:
    """Collects nodes and constants; a method returns the name of what its node computes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        names = [f"part_{len(self.nodes)}_{number}" for number in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [value, self.constant(np.array(sizes))], names, axis=1))
        return names

    def constant(self, value: np.ndarray | torch.Tensor) -> str:
        name = f"constant_{len(self.constants)}"
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, *values: str) -> str:
        total = values[0]
        for value in values[1:]:
            total = self.op("Add", total, value)
        return total

    def linear(self, value: str, layer: Any) -> str:
        return self.op("Gemm", value, self.constant(layer.weight), self.constant(layer.bias), transB=1)

    def table(self, rows: torch.Tensor, at: str) -> str:
        return self.op("Gather", self.constant(rows), at)

    def normalised(self, value: str, width: int) -> str:
        return self.op("LayerNormalization", value, self.constant(torch.ones(width)), axis=-1, epsilon=EPSILON)

    def equal(self, one: str, other: str) -> str:
        return self.op("Cast", self.op("Equal", one, other), to=TensorProto.FLOAT)

    def attention(self, q: str, k: str, v: str, same: str, bonus: torch.Tensor, width: int) -> str:
        """See `network.attention`; every entry is present. q [Q, W], k and v [E, W], same [Q, E]."""
        heads = len(bonus)
        scale = (width // heads) ** -0.5
        if heads == 1:
            bias = self.op("Mul", same, self.constant(bonus))
            weights = self.op("Softmax", self.op("Gemm", q, k, bias, transB=1, alpha=scale), axis=1)
            return self.op("MatMul", weights, v)
        apart = self.constant(np.array([-1, heads, width // heads]))
        of_heads = [self.op("Reshape", value, apart) for value in (q, k, v)]  # [., H, W / H]
        turned = zip(of_heads, ([1, 0, 2], [1, 2, 0], [1, 0, 2]), strict=True)
        q, k, v = (self.op("Transpose", value, perm=order) for value, order in turned)
        scaled = self.op("Mul", self.op("MatMul", q, k), self.constant(np.array(scale, dtype=np.float32)))
        bias = self.op("Mul", same, self.constant(bonus[:, None, None]))  # [H, Q, E]
        weights = self.op("Softmax", self.op("Add", scaled, bias), axis=2)
        joined = self.op("Transpose", self.op("MatMul", weights, v), perm=[1, 0, 2])
        return self.op("Reshape", joined, self.constant(np.array([-1, width])))

    def block(self, x: str, block: Block, same: str, width: int) -> str:
        """See `rl.policies.transformer.network.Block`."""
        y = self.normalised(x, width)
        k, v, fed = self.split(self.linear(y, block.inward), block.parts)
        attended = self.attention(y, k, v, same, block.same, width)
        return self.add(x, attended, self.linear(self.op("Relu", fed), block.outward))


def to_graph(network: QNetwork) -> bytes:
    """Return the graph of a Q network; its weights are copied.

    Inputs, with E = 1 + T for a history of T entries, any from 0:
        candidates: [A, 1] int64, those that the network does not know as 0.
        share: [1, A] float32, 1 / n for each of the n candidates that may be chosen, 0 for the others.
        entries: [T] int64, the items of the history, those that the network does not know as 0.
        kinds: [T] int64, outcome * (oldest + 1) + min(age, oldest) of each.
        rows: [E, 1] int64, -1 and then the entries.
        columns: [1, E] int64, -2 and then the entries; so that what a history begins with is the same as nothing.
        features: [A, F] or [1, F] float32; not there for a network without features.
    Output:
        q: [A, 1] float32.
    """
    with torch.inference_mode():
        vectors, worth = network.tables()
    graph, width = _Graph(), network.config.width
    of_any, of_own = worth.chunk(2, dim=1)
    item = graph.constant(network.item.weight)
    entries = graph.op("Add", graph.op("Gather", item, "entries"), graph.table(vectors, "kinds"))
    x = graph.op("Concat", graph.constant(network.beginning[None]), entries, axis=0)  # [E, W]
    if len(network.blocks):
        same = graph.equal("rows", "columns")  # [E, E]
        for block in network.blocks:
            assert isinstance(block, Block)
            x = graph.block(x, block, same, width)
    encoded = graph.normalised(x, width)
    state = graph.op("Gather", encoded, graph.constant(np.array([0])))  # [1, W]
    asking = graph.op("Gather", item, graph.op("Squeeze", "candidates", graph.constant(np.array([1]))))  # [A, W]
    if network.features is not None:
        described = graph.linear("features", network.features)
        state = graph.add(state, graph.op("ReduceMean", described, graph.constant(np.array([0]))))
        asking = graph.add(asking, described)
    own = graph.equal("candidates", "columns")  # [A, E]
    k, v = graph.split(graph.linear(encoded, network.cross.kv), [width, width])
    taken = graph.attention(asking, k, v, own, network.cross.same, width)
    nothing = graph.constant(torch.zeros(1, width))
    counted = graph.op("MatMul", own, graph.op("Concat", nothing, graph.table(of_own, "kinds"), axis=0))
    total = graph.op("ReduceSum", graph.table(of_any, "kinds"), graph.constant(np.array([0])))  # [1, W]
    q = graph.linear(graph.op("Relu", graph.add(asking, taken, counted, total)), network.head)  # [A, 1]
    if network.value is not None:
        first, _, last = network.value
        value = graph.linear(graph.op("Relu", graph.linear(state, first)), last)
        q = graph.add(graph.op("Sub", q, graph.op("MatMul", "share", q)), value)
    graph.nodes.append(helper.make_node("Identity", [q], ["q"]))
    serialised: bytes = _model(graph, network).SerializeToString()
    return serialised


def _model(graph: _Graph, network: QNetwork) -> ModelProto:
    whole, real = TensorProto.INT64, TensorProto.FLOAT
    shapes: dict[str, tuple[int, list[str | int | None]]] = {
        "candidates": (whole, ["A", 1]),
        "share": (real, [1, "A"]),
        "entries": (whole, ["T"]),
        "kinds": (whole, ["T"]),
        "rows": (whole, ["E", 1]),
        "columns": (whole, [1, "E"]),
    }
    if network.n_features:
        shapes["features"] = (real, ["D", network.n_features])
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in shapes.items()]
    output = helper.make_tensor_value_info("q", real, ["A", 1])
    made = helper.make_graph(graph.nodes, "q_network", inputs, [output], initializer=graph.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
