"""A trained policy on disk: `policy.json` says what it is, `arrays.safetensors` holds what it learned. No pickles.

A policy of the service comes with the encoder that knows its catalogue and customers (format 1). One that was trained
in another simulator comes with that simulator's name instead (format 2), and can be evaluated there but not be served.

Whoever loads it builds the policy with this project's code and checks the arrays' hash, so an artefact can be wrong
but it cannot run code.
"""

import hashlib
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import gymnasium as gym
import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from data.features import Encoder
from data.schema import RewardSpec
from rl.policies import PolicyConfig, build
from rl.policy import Policy

_DESCRIPTION, _ARRAYS = "policy.json", "arrays.safetensors"
_POLICY, _ENCODER = "policy.", "encoder."  # what the names of arrays begin with


class ArtefactError(ValueError):
    """A folder does not hold a policy that this version can serve; says why."""


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


class Description(BaseModel):
    """The part of an artefact that a person may want to read."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    name: str
    policy: PolicyConfig
    reward: RewardSpec
    items: tuple[str, ...]
    users: tuple[str, ...]
    encoder_version: str
    sha256: str
    """Of the arrays' file."""
    trained_on: dict[str, str | int | float] = {}
    learned_until: AwareDatetime | None = None


class SimulatorDescription(BaseModel):
    """The same of a policy that was trained in a simulator."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[2] = 2
    name: str
    policy: PolicyConfig
    sizes: Sizes
    environment: str
    options: dict[str, Any] = {}
    sha256: str
    """Of the arrays' file."""
    trained_on: dict[str, str | int | float] = {}


_ANY = TypeAdapter[Description | SimulatorDescription](
    Annotated[Description | SimulatorDescription, Field(discriminator="format")]
)


@dataclass(frozen=True)
class Artefact:
    """A policy with everything that is needed to serve it and to go on learning."""

    name: str
    config: PolicyConfig
    policy: Policy
    encoder: Encoder
    reward: RewardSpec
    trained_on: dict[str, str | int | float]
    learned_until: datetime | None = None
    """Trained from the log: decisions made until then are learned already. None: no logged decision is."""
    digest: str = ""
    """First 8 hexadecimal digits of the hash of what was saved; empty before it is."""


@dataclass(frozen=True)
class SimulatorArtefact:
    """A policy with everything that is needed to play the simulator that it was trained in."""

    name: str
    config: PolicyConfig
    policy: Policy
    sizes: Sizes
    environment: str
    options: dict[str, Any]
    """Of the environment."""
    trained_on: dict[str, str | int | float]
    digest: str = ""
    """See `Artefact.digest`."""


AnyArtefact = TypeVar("AnyArtefact", Artefact, SimulatorArtefact)


def save(artefact: AnyArtefact, folder: Path) -> AnyArtefact:
    """Write an artefact, replacing what the folder held, and return it with its digest."""
    arrays = {f"{_POLICY}{name}": np.ascontiguousarray(a) for name, a in artefact.policy.state_dict().items()}
    if isinstance(artefact, Artefact):
        arrays |= {f"{_ENCODER}{name}": np.ascontiguousarray(a) for name, a in artefact.encoder.arrays().items()}
    blob = save_arrays(arrays)
    sha256 = hashlib.sha256(blob).hexdigest()
    text = (
        _of_service(artefact, sha256) if isinstance(artefact, Artefact) else _of_simulator(artefact, sha256)
    ).model_dump_json(indent=1)
    new = folder.with_name(folder.name + ".new")  # complete before it has the name, so that no one reads half of it
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    (new / _ARRAYS).write_bytes(blob)
    (new / _DESCRIPTION).write_text(text)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    return replace(artefact, digest=_digest(text))


def _of_service(artefact: Artefact, sha256: str) -> Description:
    return Description(
        name=artefact.name,
        policy=artefact.config,
        reward=artefact.reward,
        items=artefact.encoder.items,
        users=artefact.encoder.users,
        encoder_version=artefact.encoder.version,
        sha256=sha256,
        trained_on=artefact.trained_on,
        learned_until=artefact.learned_until,
    )


def _of_simulator(artefact: SimulatorArtefact, sha256: str) -> SimulatorDescription:
    return SimulatorDescription(
        name=artefact.name,
        policy=artefact.config,
        sizes=artefact.sizes,
        environment=artefact.environment,
        options=artefact.options,
        sha256=sha256,
        trained_on=artefact.trained_on,
    )


def load(folder: Path) -> Artefact:
    """Read an artefact of the service.

    Raises:
        ArtefactError: as `load_any` does; or the policy was trained in a simulator and knows no catalogue.
        PolicyError: as `load_any` does.
    """
    artefact = load_any(folder)
    if isinstance(artefact, SimulatorArtefact):
        raise ArtefactError(
            f"{folder} was trained in {artefact.environment} and has no encoder: it knows that simulator's items, not "
            "those of a catalogue, and cannot be served; evaluate it with rl.evaluate"
        )
    return artefact


def load_any(folder: Path) -> Artefact | SimulatorArtefact:
    """Read an artefact.

    Raises:
        ArtefactError: the folder holds no artefact, its description is not valid, or its arrays are not those that
            were saved with it.
        PolicyError: the arrays do not fit the policy that the description names.
    """
    try:
        text, blob = (folder / _DESCRIPTION).read_text(), (folder / _ARRAYS).read_bytes()
        description = _ANY.validate_json(text)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtefactError(f"no policy in {folder}: {error.filename} is missing; train one with rl.train") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{folder / _DESCRIPTION} does not describe a policy: {error}") from error
    if (found := hashlib.sha256(blob).hexdigest()) != description.sha256:
        raise ArtefactError(f"{folder / _ARRAYS} has sha256 {found}, its description says {description.sha256}")
    arrays = load_arrays(blob)
    if isinstance(description, Description):
        return _served(description, arrays, folder, _digest(text))
    return _simulated(description, arrays, _digest(text))


def _served(description: Description, arrays: dict[str, np.ndarray], folder: Path, digest: str) -> Artefact:
    encoder = Encoder(items=description.items, users=description.users, **_part(arrays, _ENCODER))
    if encoder.version != description.encoder_version:
        wanted = description.encoder_version
        raise ArtefactError(
            f"{folder} has encoder {encoder.version}, its description says {wanted}: its ids were changed"
        )
    policy = build(description.policy, encoder.n_features, encoder.n_states, encoder.popularity)
    policy.load_state_dict(_part(arrays, _POLICY))
    return Artefact(
        description.name,
        description.policy,
        policy,
        encoder,
        description.reward,
        description.trained_on,
        description.learned_until,
        digest,
    )


def _simulated(description: SimulatorDescription, arrays: dict[str, np.ndarray], digest: str) -> SimulatorArtefact:
    sizes = description.sizes
    policy = build(description.policy, sizes.n_features, sizes.n_states, np.zeros(sizes.n_items + 1))
    policy.load_state_dict(_part(arrays, _POLICY))
    return SimulatorArtefact(
        description.name,
        description.policy,
        policy,
        sizes,
        description.environment,
        description.options,
        description.trained_on,
        digest,
    )


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _digest(text: str) -> str:
    """The description holds the arrays' hash, so its own hash covers everything."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
