"""The torch module that a description becomes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rl.networks.description.description import NetworkDescription
from rl.networks.description.graph import check_known
from rl.networks.description.inputs import (
    CategoricalInput,
    Input,
    NetworkError,
    NumericInput,
)
from rl.networks.description.nodes import width
from rl.networks.description.shapes import subnetwork_shapes
from rl.networks.module.inner import Inner, key
from rl.networks.module.layers import Activation
from rl.networks.module.readers import (
    Categorical,
    Listed,
    Numeric,
    tensor_form,
)


class Network(nn.Module):
    """Several inputs, several outputs. Made by `build`.

    Every table and every named network is one module here, however many nodes use it.
    """

    def __init__(self, description: NetworkDescription) -> None:
        super().__init__()
        self.description = description
        self.embeddings = nn.ModuleDict()
        for name, table in description.embeddings.items():
            embedding = nn.Embedding(table.size, table.width, padding_idx=0)
            with torch.no_grad():  # vectors of length about 1, whatever the width
                embedding.weight[1:] *= table.width**-0.5
            self.embeddings[key(name)] = embedding
        self.inputs = nn.ModuleDict({key(name): self._reader(node) for name, node in description.inputs.items()})
        self.networks = nn.ModuleDict()
        for name, network in description.networks.items():
            inside = subnetwork_shapes(network, description.networks, f"networks.{name}.")
            self.networks[key(name)] = Inner(network.nodes, inside, description.networks)
        self.shapes = description.shapes()
        self.inner = Inner(description.nodes, self.shapes, description.networks)
        self.heads = nn.ModuleDict(
            {key(name): nn.Linear(self.shapes[o.input].width, width(o)) for name, o in description.outputs.items()}
        )

    def _reader(self, node: Input) -> nn.Module:
        match node:
            case NumericInput():
                return Numeric(node)
            case CategoricalInput():
                return Categorical()
            case _:
                return Listed(node, self.description.embeddings[node.embedding].width)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every output as its loss takes it: Q values [B, actions], logits [B] or [B, classes], numbers [B].

        Args:
            inputs: of each input its tensor, see `encode_inputs`.

        Raises:
            NetworkError: an input is missing, unknown, or of another shape or type.
        """
        values = self._activations(inputs)
        given = {
            name: self.heads[key(name)](values[output.input].x) for name, output in self.description.outputs.items()
        }
        single = ("binary", "regression")
        return {name: x.squeeze(1) if self.description.outputs[name].kind in single else x for name, x in given.items()}

    def predict(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every output as a person reads it: probabilities in place of logits; no dropout, no gradient."""
        with evaluating(self), torch.no_grad():
            outputs = self(inputs)
        for name, output in self.description.outputs.items():
            if output.kind == "binary":
                outputs[name] = outputs[name].sigmoid()
            elif output.kind == "class":
                outputs[name] = outputs[name].softmax(dim=1)
        return dict(outputs)

    def features(self, inputs: Mapping[str, Tensor], node: str) -> Tensor:
        """Return the activation of an input or an inner node, [B, W] or [B, T, W], with its gradient.

        Args:
            inputs: of each input its tensor.
            node: its name; `left.hidden` is node `hidden` of the network that node `left` is.

        Raises:
            NetworkError: no node has this name; or as `forward`.
        """
        values = self._activations(inputs)
        check_known(node, values, "features", "node")
        return values[node].x

    def standardise(self, inputs: Mapping[str, Tensor]) -> None:
        """Fit the statistics of numeric inputs that have none yet to training data.

        Raises:
            NetworkError: a column has no value; or as `forward`.
        """
        self._check(inputs)
        for name in self.description.inputs:
            if isinstance(layer := self.inputs[key(name)], Numeric):
                try:
                    layer.fit(inputs[name])
                except NetworkError as error:
                    raise NetworkError(f"inputs.{name}: {error}") from error

    def _activations(self, inputs: Mapping[str, Tensor]) -> dict[str, Activation]:
        self._check(inputs)
        given = dict[str, Activation]()
        for name, node in self.description.inputs.items():
            layer = self.inputs[key(name)]
            if isinstance(node, NumericInput):
                given[name] = layer(inputs[name])
            else:
                given[name] = layer(inputs[name], self.embeddings[key(node.embedding)])
        values: dict[str, Activation] = self.inner(given, self.networks)
        return values

    def _check(self, inputs: Mapping[str, Tensor]) -> None:
        wanted = self.description.inputs
        if wanted.keys() != inputs.keys():
            raise NetworkError(f"inputs must be {', '.join(sorted(wanted))}, got {', '.join(sorted(inputs)) or 'none'}")
        for name, node in wanted.items():
            shape, dtype, tensor = (*tensor_form(node), inputs[name])
            if tensor.shape[1:] != shape or tensor.ndim != len(shape) + 1 or tensor.dtype != dtype:
                axes = ", ".join(["B", *map(str, shape)])
                raise NetworkError(
                    f"inputs.{name}: needs a {dtype} of shape [{axes}], got {tensor.dtype} {list(tensor.shape)}"
                )


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Switch dropout off for a while."""
    before = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(before)


def build(description: NetworkDescription, seed: int | torch.Generator = 0) -> Network:
    """Make the untrained network of a description.

    Args:
        description: what it consists of.
        seed: of the initial weights; a generator is advanced by one number. Torch's own is left as it was.
    """
    if isinstance(seed, torch.Generator):
        seed = int(torch.randint(2**62, (), generator=seed))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # which torch's layers draw their first weights from
        return Network(description)
