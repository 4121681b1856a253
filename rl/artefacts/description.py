"""What `policy.json` of an artefact says: three formats, told apart by `format`. Light.

A policy of the service comes with its encoder: one that knows the catalogue and its customers (format 1), or any that
`rl.encoders.description` describes (format 3). One that was trained in a simulator comes with that simulator's name
(format 2).
"""

from typing import Annotated, Any, Literal, Self, TypeAlias

import gymnasium as gym
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from data.schema import RewardSpec
from rl.encoders.description import EncoderDescription
from rl.policies import PolicyConfig

EARNED = RewardSpec()
"""What a simulator's policy is taken to have been trained for, unless it says otherwise."""


class Sizes(BaseModel):
    """What a policy was built for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    n_items: int
    """N: ids are 1 to N."""
    n_features: int
    """F: length of the features."""
    n_states: int = 1
    """Number of discrete context states."""

    @classmethod
    def of(cls, space: gym.Space[Any]) -> Self:
        """Return the sizes that the observations of a simulator have; see `rl.simulators.batched`."""
        assert isinstance(space, gym.spaces.Dict), "observations of simulators are dictionaries"
        items, features, state = space["items"], space.get("features"), space.get("state")
        assert isinstance(items, gym.spaces.Box), "items are numbers"
        return cls(
            n_items=int(items.high.max()),
            n_features=features.shape[-1] if features is not None and features.shape else 0,
            n_states=int(state.n) if isinstance(state, gym.spaces.Discrete) else 1,
        )


class _Described(BaseModel):
    """The part of an artefact that a person may want to read."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    policy: PolicyConfig
    sha256: str
    """Of the arrays' file."""
    trained_on: dict[str, str | int | float] = {}
    erased_from: str | None = None
    """Hash of the description before customers were taken out of the encoder, who asked to be forgotten. It stays the
    artefact's: all other customers are answered as before."""


class CustomerDescription(_Described):
    """Of a policy of the service whose encoder knows its customers, and that sees no history."""

    format: Literal[1] = 1
    reward: RewardSpec
    items: tuple[str, ...]
    users: tuple[str, ...]
    encoder_version: str
    learned_until: AwareDatetime | None = None


class SimulatorDescription(_Described):
    """Of a policy that was trained in a simulator."""

    format: Literal[2] = 2
    sizes: Sizes
    environment: str
    options: dict[str, Any] = {}
    reward: RewardSpec = EARNED
    history: int | None = None
    """T: entries of the histories that it saw; None: saved before it was said."""
    encoder: EncoderDescription | None = None
    """What the features of its observations were made with, where that can be done for real visits too."""


class ServiceDescription(_Described):
    """Of any other policy of the service."""

    format: Literal[3] = 3
    reward: RewardSpec
    encoder: EncoderDescription
    history: int = 0
    learned_until: AwareDatetime | None = None


Description: TypeAlias = CustomerDescription | SimulatorDescription | ServiceDescription
ANY_DESCRIPTION = TypeAdapter[Description](Annotated[Description, Field(discriminator="format")])
"""Reads a description of any format."""
