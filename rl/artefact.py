"""A trained policy on disk: `policy.json` says what it is, `arrays.safetensors` holds what it learned. No pickles.

Whoever loads it builds the policy with this project's code and checks the arrays' hash, so an artefact can be wrong
but it cannot run code.
"""

import hashlib
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from data.features import Encoder
from data.schema import RewardSpec
from rl.policies import PolicyConfig, build
from rl.policy import Policy

_DESCRIPTION, _ARRAYS = "policy.json", "arrays.safetensors"


class ArtefactError(ValueError):
    """A folder does not hold a policy that this version can serve; says why."""


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


def save(artefact: Artefact, folder: Path) -> Artefact:
    """Write an artefact, replacing what the folder held, and return it with its digest."""
    arrays = {f"encoder.{name}": np.ascontiguousarray(a) for name, a in artefact.encoder.arrays().items()}
    arrays |= {f"policy.{name}": np.ascontiguousarray(a) for name, a in artefact.policy.state_dict().items()}
    blob = save_arrays(arrays)
    description = Description(
        name=artefact.name,
        policy=artefact.config,
        reward=artefact.reward,
        items=artefact.encoder.items,
        users=artefact.encoder.users,
        encoder_version=artefact.encoder.version,
        sha256=hashlib.sha256(blob).hexdigest(),
        trained_on=artefact.trained_on,
        learned_until=artefact.learned_until,
    )
    new = folder.with_name(folder.name + ".new")  # complete before it has the name, so that no one reads half of it
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    text = description.model_dump_json(indent=1)
    (new / _ARRAYS).write_bytes(blob)
    (new / _DESCRIPTION).write_text(text)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    return replace(artefact, digest=_digest(text))


def load(folder: Path) -> Artefact:
    """Read an artefact.

    Raises:
        ArtefactError: the folder holds no artefact, its description is not valid, or its arrays are not those that
            were saved with it.
        PolicyError: the arrays do not fit the policy that the description names.
    """
    try:
        text, blob = (folder / _DESCRIPTION).read_text(), (folder / _ARRAYS).read_bytes()
        description = Description.model_validate_json(text)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtefactError(f"no policy in {folder}: {error.filename} is missing; train one with rl.train") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{folder / _DESCRIPTION} does not describe a policy: {error}") from error
    if (found := hashlib.sha256(blob).hexdigest()) != description.sha256:
        raise ArtefactError(f"{folder / _ARRAYS} has sha256 {found}, its description says {description.sha256}")
    arrays = load_arrays(blob)
    encoder = Encoder(items=description.items, users=description.users, **_part(arrays, "encoder."))
    if encoder.version != description.encoder_version:
        wanted = description.encoder_version
        raise ArtefactError(
            f"{folder} has encoder {encoder.version}, its description says {wanted}: its ids were changed"
        )
    policy = build(description.policy, encoder.n_features, encoder.n_states, encoder.popularity)
    policy.load_state_dict(_part(arrays, "policy."))
    return Artefact(
        description.name,
        description.policy,
        policy,
        encoder,
        description.reward,
        description.trained_on,
        description.learned_until,
        _digest(text),
    )


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _digest(text: str) -> str:
    """The description holds the arrays' hash, so its own hash covers everything."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
