"""A trained policy on disk, of one format: no pickles.

    policy.json          what it is: see `rl.artefacts.description`; with the hashes of the other files
    arrays.safetensors   what the policy has learned, and the encoder's arrays
    model.onnx           what answers for it in service, where it is a network: see `Policy.export_graph`

A policy comes with the encoder that it was trained with. One that was trained in a simulator says in which, can be
evaluated there, and is served if its encoder can tell it of requests what the simulator has told it.

Whoever loads an artefact builds the policy with this project's code and checks the hashes, so an artefact can be wrong
but it cannot run code.
"""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from data.atomic import replace_folder
from data.reward import RewardSpec
from rl.artefacts.description import Description, TrainedIn
from rl.artefacts.errors import ArtefactError
from rl.encoders.base import VisitEncoder
from rl.encoders.description import describe, restore
from rl.encoders.simulated import SimulatedEncoder
from rl.policies import PolicyConfig, build
from rl.policy.interface import Policy

DESCRIPTION, ARRAYS, GRAPH = "policy.json", "arrays.safetensors", "model.onnx"
"""The files of an artefact; the last is not in all."""
_POLICY, _ENCODER = "policy.", "encoder."  # what the names of arrays begin with


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A policy with everything that is needed to serve it, to play its simulator, and to go on learning."""

    name: str
    config: PolicyConfig
    policy: Policy
    encoder: VisitEncoder
    reward: RewardSpec = field(default_factory=RewardSpec)
    history: int = 0
    """T: entries of the histories that it was trained with. 0: it is to be given none."""
    environment: TrainedIn | None = None
    """None: it was not trained in a simulator of its own."""
    trained_on: dict[str, str | int | float] = field(default_factory=dict)
    learned_until: datetime | None = None
    """Trained from the log: decisions made until then are learned already. None: no logged decision is."""
    graph: bytes | None = field(default=None, repr=False)
    """What answers for the policy in service; None: the policy itself."""
    digest: str = ""
    """First 8 hexadecimal digits of the hash of what was saved; empty before it is."""

    def with_graph(self) -> Self:
        """Return it with the graph of its policy, where that has one; see `Policy.export_graph`.

        A training does this once, with what it gives: its checkpoints need no graph, which takes seconds to export.
        """
        return replace(self, graph=self.policy.export_graph())


def save(artefact: Artefact, folder: Path, erased_from: str | None = None) -> Artefact:
    """Write an artefact, replacing what the folder held, and return it with its digest.

    Args:
        artefact: the artefact.
        folder: replaced as a whole, see `data.atomic.replace_folder`.
        erased_from: see `rl.artefacts.description`; only `rl.artefacts.erasure` has a use for it.

    Raises:
        TypeError: its encoder is none that `rl.encoders.description` describes.
    """
    encoder, of_encoder = describe(artefact.encoder)
    arrays = {f"{_POLICY}{name}": np.ascontiguousarray(a) for name, a in artefact.policy.state_dict().items()}
    arrays |= {f"{_ENCODER}{name}": np.ascontiguousarray(a) for name, a in of_encoder.items()}
    files = {ARRAYS: save_arrays(arrays)} | ({} if artefact.graph is None else {GRAPH: artefact.graph})
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    description = Description(
        name=artefact.name,
        policy=artefact.config,
        encoder=encoder,
        reward=artefact.reward,
        history=artefact.history,
        environment=artefact.environment,
        trained_on=artefact.trained_on,
        learned_until=artefact.learned_until,
        arrays_sha256=hashes[ARRAYS],
        graph_sha256=hashes.get(GRAPH),
        erased_from=erased_from,
    )
    text = description.model_dump_json(indent=1)
    with replace_folder(folder) as new:
        for name, content in (files | {DESCRIPTION: text.encode()}).items():
            (new / name).write_bytes(content)
    return replace(artefact, digest=_digest(text.encode(), erased_from))


def load(folder: Path) -> Artefact:
    """Read an artefact.

    Raises:
        ArtefactError: the folder holds no artefact, its description is not valid, or its other files are not those that
            were saved with it.
        PolicyError: the arrays do not fit the policy that the description names.
    """
    return _load(folder, serving=False)


def load_served(folder: Path) -> Artefact:
    """Read an artefact to answer requests by it: with a graph in the policy's place where there is one.

    Raises:
        ArtefactError: as `load` does; or its encoder knows nothing of requests.
        PolicyError: as `load` does.
    """
    artefact = _load(folder, serving=True)
    if isinstance(artefact.encoder, SimulatedEncoder):
        encoder = artefact.encoder
        where = artefact.environment.name if artefact.environment else "a simulator"
        raise ArtefactError(
            f"{artefact.name} was trained in {where} and has no encoder: it saw that simulator's own contexts "
            f"({encoder.n_features} features, {encoder.n_states} states), which no request has, and cannot be served; "
            "evaluate it with rl.evaluate"
        )
    return artefact


def _load(folder: Path, serving: bool) -> Artefact:
    text, blob = _read(folder, DESCRIPTION), _read(folder, ARRAYS)
    description = Description.parse(text, folder / DESCRIPTION)
    _check(blob, description.arrays_sha256, folder / ARRAYS)
    graph = None
    if description.graph_sha256 is not None:
        graph = _read(folder, GRAPH)
        _check(graph, description.graph_sha256, folder / GRAPH)
    try:
        arrays = load_arrays(blob)
        encoder = restore(description.encoder, _part(arrays, _ENCODER))
    except (SafetensorError, ValueError) as error:
        raise ArtefactError(f"{folder} cannot be read: {error}") from error
    policy, state = None, _part(arrays, _POLICY)
    if serving and graph is not None:
        policy = description.policy.serve(graph, state)
    if policy is None:
        policy = build(description.policy, encoder.n_features, encoder.n_states, encoder.popularity)
        policy.load_state_dict(state)
    return Artefact(
        name=description.name,
        config=description.policy,
        policy=policy,
        encoder=encoder,
        reward=description.reward,
        history=description.history,
        environment=description.environment,
        trained_on=description.trained_on,
        learned_until=description.learned_until,
        graph=graph,
        digest=_digest(text, description.erased_from),
    )


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtefactError(f"no policy in {folder}: {error.filename} is missing; train one with rl.train") from error


def _check(content: bytes, sha256: str, path: Path) -> None:
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ArtefactError(f"{path} has sha256 {found}, its description says {sha256}")


def _part(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def read_sha256(folder: Path) -> str:
    """Return the hash that an artefact was saved with, whoever was taken out of it since."""
    text = (folder / DESCRIPTION).read_bytes()
    return Description.parse(text, folder / DESCRIPTION).erased_from or hashlib.sha256(text).hexdigest()


def _digest(text: bytes, erased_from: str | None) -> str:
    """The description holds the other files' hashes, so its own hash covers everything."""
    return (erased_from or hashlib.sha256(text).hexdigest())[:8]
