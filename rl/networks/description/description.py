"""A whole network as data, read from TOML and checked before anything is built."""

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from data.errors import reason
from rl.networks.description.graph import (
    check_all_used,
    check_known,
    distinct,
    list_networks,
    network_order,
)
from rl.networks.description.inputs import (
    Described,
    Embedding,
    Input,
    Name,
    NetworkError,
    NumericInput,
)
from rl.networks.description.nodes import Node, Output, SubNetwork
from rl.networks.description.shapes import (
    Shape,
    input_shape,
    shapes,
    subnetwork_shapes,
)


class NetworkDescription(Described):
    """Inputs, inner nodes and outputs, which refer to each other by name.

    Creating one checks it; like every pydantic model it then raises a `ValidationError`. `parse` and
    `read_description` raise `NetworkError`.
    """

    embeddings: dict[Name, Embedding] = Field(default_factory=dict, description="tables that inputs share by name")
    networks: dict[Name, SubNetwork] = Field(default_factory=dict, description="networks that nodes share by name")
    inputs: Annotated[dict[Name, Input], Field(min_length=1)]
    nodes: dict[Name, Node] = Field(default_factory=dict)
    outputs: Annotated[dict[Name, Output], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        sections: dict[str, Collection[str]] = {"inputs": self.inputs, "nodes": self.nodes}
        distinct({**sections, "outputs": self.outputs})
        for name in network_order(self.networks):
            subnetwork_shapes(self.networks[name], self.networks, f"networks.{name}.")
        used = list_networks(self.nodes, self.networks)  # also refuses unknown names, before shapes need them
        given = self.shapes()
        for name, output in self.outputs.items():
            check_known(output.input, given, f"outputs.{name}.input", "input or node")
            if given[output.input].length is not None:
                got = f"{output.input} {given[output.input]}"
                raise NetworkError(f"outputs.{name}.input: needs a vector, got {got}; a node of kind pool makes one")
        check_all_used(sections, self.nodes, [output.input for output in self.outputs.values()])
        if unused := [name for name in self.networks if name not in used]:
            raise NetworkError(f"networks.{unused[0]}: no node uses it; use it or leave it out")
        if unused := [name for name in self.embeddings if not self.readers(name)]:
            raise NetworkError(f"embeddings.{unused[0]}: no input uses it; use it or leave it out")
        return self

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every input's and every inner node's activation, each after those that it reads."""
        given = {name: input_shape(name, node, self.embeddings) for name, node in self.inputs.items()}
        return shapes(self.nodes, given, self.networks)

    def readers(self, embedding: str) -> list[str]:
        """Return the names of the inputs that share a table."""
        return [
            name
            for name, node in self.inputs.items()
            if not isinstance(node, NumericInput) and node.embedding == embedding
        ]


def parse(data: Mapping[str, object]) -> NetworkDescription:
    """Make a description from plain data, such as TOML gives.

    Raises:
        NetworkError: something in it is not as it must be; one line for each mistake, with its place.
    """
    try:
        return NetworkDescription.model_validate(data)
    except ValidationError as error:
        raise NetworkError("\n".join(_line(mistake["loc"], reason(mistake)) for mistake in error.errors())) from error


def _line(place: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(str(part) for part in place)}: {message}" if place else message


def read_description(path: Path | str) -> NetworkDescription:
    """Read a description from a TOML file.

    Raises:
        NetworkError: the file is missing, is not TOML (a name given twice is not), or describes no valid network.
    """
    try:
        data = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NetworkError(f"{path}: {error}") from error
    try:
        return parse(data)
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from error
