"""The encoders that an artefact can have, as its description names them: one of a `kind`, with arrays.

A new kind is a description here, added to `EncoderDescription`, and a case in `describe` and in `restore`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from rl.encoders.base import VisitEncoder
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.context import ContextEncoder
from rl.encoders.customers import CustomerEncoder
from rl.encoders.json_features import FeaturesEncoder
from rl.encoders.simulated import SimulatedEncoder

Arrays: TypeAlias = dict[str, NDArray[np.float64] | NDArray[np.int64]]


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    version: str
    """Of the encoder: ids that were changed by hand give another one."""


class CustomersDescription(_Description):
    """Of a `CustomerEncoder`; its arrays go with the policy's."""

    kind: Literal["customers"] = "customers"
    items: tuple[str, ...]
    users: tuple[str, ...]


class CatalogueDescription(_Description):
    """Of a `CatalogueEncoder`."""

    kind: Literal["catalogue"] = "catalogue"
    items: tuple[str, ...]


class ContextDescription(_Description):
    """Of a `ContextEncoder`."""

    kind: Literal["context"] = "context"
    items: tuple[str, ...]
    numbers: tuple[str, ...]


class FeaturesDescription(_Description):
    """Of a `FeaturesEncoder`."""

    kind: Literal["features"] = "features"
    items: tuple[str, ...]


class SimulatedDescription(_Description):
    """Of a `SimulatedEncoder`."""

    kind: Literal["simulated"] = "simulated"
    n_items: int
    """N: ids are 1 to N."""
    n_features: int
    """F: length of the features."""
    n_states: int = 1
    """Number of discrete context states."""


EncoderDescription: TypeAlias = Annotated[
    CustomersDescription | CatalogueDescription | ContextDescription | FeaturesDescription | SimulatedDescription,
    Field(discriminator="kind"),
]
"""Any encoder, told apart by its `kind`."""


def describe(encoder: VisitEncoder) -> tuple[EncoderDescription, Arrays]:
    """Return what `restore` makes the encoder of: a description, and arrays by name.

    Raises:
        TypeError: artefacts have no such encoder.
    """
    match encoder:
        case CustomerEncoder():
            return CustomersDescription(
                items=encoder.items, users=encoder.users, version=encoder.version
            ), encoder.arrays()
        case ContextEncoder():  # this and the next before what they are special cases of
            return ContextDescription(items=encoder.items, numbers=encoder.numbers, version=encoder.version), {}
        case FeaturesEncoder():
            return FeaturesDescription(items=encoder.items, version=encoder.version), {}
        case CatalogueEncoder():
            return CatalogueDescription(items=encoder.items, version=encoder.version), {}
        case SimulatedEncoder():
            return SimulatedDescription(**asdict(encoder), version=encoder.version), {}
        case _:
            raise TypeError(
                f"an artefact can have no {type(encoder).__name__}: rl.encoders.description does not describe it"
            )


def restore(description: EncoderDescription, arrays: Mapping[str, Any]) -> VisitEncoder:
    """Make an encoder of what `describe` has returned.

    Raises:
        ValueError: it is not the encoder that was described.
    """
    encoder: VisitEncoder
    match description:
        case CustomersDescription():
            try:
                encoder = CustomerEncoder(items=description.items, users=description.users, **arrays)
            except TypeError as error:
                raise ValueError(f"the encoder's arrays are not those of one of customers: {sorted(arrays)}") from error
        case CatalogueDescription():
            encoder = CatalogueEncoder(description.items)
        case FeaturesDescription():
            encoder = FeaturesEncoder(description.items)
        case ContextDescription():
            encoder = ContextEncoder(description.items, description.numbers)
        case SimulatedDescription():
            encoder = SimulatedEncoder(description.n_items, description.n_features, description.n_states)
    if encoder.version != description.version:
        raise ValueError(f"it has encoder {encoder.version}, its description says {description.version}")
    return encoder
