"""A trained policy on disk: `policy.json` says what it is, `arrays.safetensors` holds what it learned. No pickles.

A policy of the service comes with its encoder. One that was trained in a simulator comes with that simulator's name,
can be evaluated there, and is served if the service can tell it what the simulator did.

Whoever loads it builds the policy with this project's code and checks the arrays' hash, so an artefact can be wrong
but it cannot run code.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from data.atomic import replace_folder
from data.errors import RecommenderError
from data.schema import RewardSpec
from rl.artefacts.description import (
    ANY_DESCRIPTION,
    EARNED,
    CustomerDescription,
    Description,
    ServiceDescription,
    SimulatorDescription,
)
from rl.artefacts.description import Sizes as Sizes
from rl.encoders.base import VisitEncoder
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.description import (
    CustomersDescription,
    EncoderDescription,
    described,
    restored,
)
from rl.policies import PolicyConfig, build
from rl.policy.interface import Policy

DESCRIPTION, ARRAYS = "policy.json", "arrays.safetensors"
"""The files of an artefact."""
_POLICY, _ENCODER = "policy.", "encoder."  # what the names of arrays begin with
_HISTORY = 20  # entries, of a simulator's policy that was saved before it was said


class ArtefactError(RecommenderError):
    """A folder does not hold a policy that this version can serve; says why."""


@dataclass(frozen=True)
class Artefact:
    """A policy with everything that is needed to serve it and to go on learning."""

    name: str
    config: PolicyConfig
    policy: Policy
    encoder: VisitEncoder
    reward: RewardSpec
    trained_on: dict[str, str | int | float]
    learned_until: datetime | None = None
    """Trained from the log: decisions made until then are learned already. None: no logged decision is."""
    history: int = 0
    """T: entries of the histories that it was trained with. 0: it is to be given none."""
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
    reward: RewardSpec = EARNED
    history: int | None = None
    """See `SimulatorDescription`."""
    encoder: VisitEncoder | None = None
    """See `SimulatorDescription`."""
    digest: str = ""
    """See `Artefact.digest`."""

    def served(self) -> Artefact:
        """Return it as a policy of the service.

        Raises:
            ArtefactError: the service cannot tell it what the simulator did.
        """
        encoder, history = self.encoder, self.history
        if encoder is None:
            if self.sizes.n_features or self.sizes.n_states > 1:
                raise ArtefactError(
                    f"{self.name} was trained in {self.environment} and has no encoder: it saw that simulator's own "
                    f"contexts ({self.sizes.n_features} features, {self.sizes.n_states} states), which no request "
                    "has, and cannot be served; evaluate it with rl.evaluate"
                )
            encoder = CatalogueEncoder.numbered(self.sizes.n_items)
            history = _HISTORY if history is None else history
        return Artefact(
            self.name,
            self.config,
            self.policy,
            encoder,
            self.reward,
            self.trained_on,
            history=history or 0,
            digest=self.digest,
        )


AnyArtefact = TypeVar("AnyArtefact", Artefact, SimulatorArtefact)


def save(artefact: AnyArtefact, folder: Path, erased_from: str | None = None) -> AnyArtefact:
    """Write an artefact, replacing what the folder held, and return it with its digest.

    Args:
        artefact: the artefact.
        folder: replaced as a whole, see `data.atomic.replace_folder`.
        erased_from: see `rl.artefacts.description`; only `rl.artefacts.erasure` has a use for it.

    Raises:
        TypeError: its encoder is none that `rl.encoders.description` describes.
    """
    arrays = {f"{_POLICY}{name}": np.ascontiguousarray(a) for name, a in artefact.policy.state_dict().items()}
    encoder = None
    if artefact.encoder is not None:
        encoder, of_encoder = described(artefact.encoder)
        arrays |= {f"{_ENCODER}{name}": np.ascontiguousarray(a) for name, a in of_encoder.items()}
    blob = save_arrays(arrays)
    description = _description(artefact, encoder, hashlib.sha256(blob).hexdigest())
    text = description.model_copy(update={"erased_from": erased_from}).model_dump_json(indent=1)
    with replace_folder(folder) as new:
        (new / ARRAYS).write_bytes(blob)
        (new / DESCRIPTION).write_text(text)
    return replace(artefact, digest=_digest(text, erased_from))


def _description(
    artefact: Artefact | SimulatorArtefact, encoder: EncoderDescription | None, sha256: str
) -> Description:
    common = {
        "name": artefact.name,
        "policy": artefact.config,
        "reward": artefact.reward,
        "sha256": sha256,
        "trained_on": artefact.trained_on,
    }
    if isinstance(artefact, SimulatorArtefact):
        played = {name: getattr(artefact, name) for name in ("sizes", "environment", "options", "history")}
        return SimulatorDescription(**common, **played, encoder=encoder)
    until = artefact.learned_until
    if isinstance(encoder, CustomersDescription) and not artefact.history:
        known = {"items": encoder.items, "users": encoder.users, "encoder_version": encoder.version}
        return CustomerDescription(**common, **known, learned_until=until)
    assert encoder is not None, "an artefact of the service has an encoder"
    return ServiceDescription(**common, encoder=encoder, history=artefact.history, learned_until=until)


def load(folder: Path) -> Artefact:
    """Read an artefact as a policy of the service.

    Raises:
        ArtefactError: as `load_any` does; or it cannot be served, see `SimulatorArtefact.served`.
        PolicyError: as `load_any` does.
    """
    artefact = load_any(folder)
    return artefact.served() if isinstance(artefact, SimulatorArtefact) else artefact


def load_any(folder: Path) -> Artefact | SimulatorArtefact:
    """Read an artefact.

    Raises:
        ArtefactError: the folder holds no artefact, its description is not valid, or its arrays are not those that
            were saved with it.
        PolicyError: the arrays do not fit the policy that the description names.
    """
    try:
        text, blob = (folder / DESCRIPTION).read_text(), (folder / ARRAYS).read_bytes()
        description = ANY_DESCRIPTION.validate_json(text)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtefactError(f"no policy in {folder}: {error.filename} is missing; train one with rl.train") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{folder / DESCRIPTION} does not describe a policy: {error}") from error
    if (found := hashlib.sha256(blob).hexdigest()) != description.sha256:
        raise ArtefactError(f"{folder / ARRAYS} has sha256 {found}, its description says {description.sha256}")
    try:
        arrays = load_arrays(blob)
        encoder = _encoder(description, _part(arrays, _ENCODER))
    except (RecommenderError, SafetensorError, ValueError) as error:
        raise ArtefactError(f"{folder} cannot be read: {error}") from error
    of_policy, digest = _part(arrays, _POLICY), _digest(text, description.erased_from)
    if isinstance(description, SimulatorDescription):
        return _simulated(description, encoder, of_policy, digest)
    assert encoder is not None, "only a simulator's policy has none"
    return _served(description, encoder, of_policy, digest)


def _encoder(description: Description, arrays: dict[str, np.ndarray]) -> VisitEncoder | None:
    if not isinstance(description, CustomerDescription):
        return restored(description.encoder, arrays) if description.encoder else None
    of_customers = CustomersDescription(
        items=description.items, users=description.users, version=description.encoder_version
    )
    return restored(of_customers, arrays)


def _served(
    description: CustomerDescription | ServiceDescription,
    encoder: VisitEncoder,
    arrays: dict[str, np.ndarray],
    digest: str,
) -> Artefact:
    policy = build(description.policy, encoder.n_features, encoder.n_states, encoder.popularity)
    policy.load_state_dict(arrays)
    return Artefact(
        description.name,
        description.policy,
        policy,
        encoder,
        description.reward,
        description.trained_on,
        description.learned_until,
        description.history if isinstance(description, ServiceDescription) else 0,
        digest,
    )


def _simulated(
    description: SimulatorDescription, encoder: VisitEncoder | None, arrays: dict[str, np.ndarray], digest: str
) -> SimulatorArtefact:
    sizes = description.sizes
    policy = build(description.policy, sizes.n_features, sizes.n_states, np.zeros(sizes.n_items + 1))
    policy.load_state_dict(arrays)
    return SimulatorArtefact(
        description.name,
        description.policy,
        policy,
        sizes,
        description.environment,
        description.options,
        description.trained_on,
        description.reward,
        description.history,
        encoder,
        digest,
    )


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def sha256_of(folder: Path) -> str:
    """Return the hash that an artefact was saved with, whoever was taken out of it since."""
    text = (folder / DESCRIPTION).read_text()
    return ANY_DESCRIPTION.validate_json(text).erased_from or hashlib.sha256(text.encode()).hexdigest()


def _digest(text: str, erased_from: str | None) -> str:
    """The description holds the arrays' hash, so its own hash covers everything."""
    return (erased_from or hashlib.sha256(text.encode()).hexdigest())[:8]
