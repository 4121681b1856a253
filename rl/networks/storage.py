"""A network on disk: `network.json` describes it, `weights.safetensors` holds what it learned. No pickles.

Whoever loads it builds the network with this project's code and checks the hash of both files' content, so a stored
network can be wrong but it cannot run code.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from data.atomic import replace_folder
from rl.networks.description.description import parse
from rl.networks.description.inputs import NetworkError
from rl.networks.module.network import Network, build

_DESCRIPTION, _WEIGHTS = "network.json", "weights.safetensors"
_FORMAT = 1


def save_network(network: Network, folder: Path | str) -> str:
    """Write a network, replacing what the folder held, and return the hash of its content.

    Weights and the statistics of numeric inputs are saved; the optimiser's state is not.
    """
    folder = Path(folder)
    blob = save_tensors({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    description = network.description.model_dump(mode="json")
    sha256 = _sha256(description, blob)
    text = json.dumps({"format": _FORMAT, "sha256": sha256, "description": description}, indent=1)
    with replace_folder(folder) as new:
        (new / _WEIGHTS).write_bytes(blob)
        (new / _DESCRIPTION).write_text(text)
    return sha256


def load_network(folder: Path | str) -> Network:
    """Read a network; it is in evaluation mode.

    Raises:
        NetworkError: the folder holds no network, its description is not valid, a file is not as it was saved, or the
            weights do not fit the description.
    """
    folder = Path(folder)
    try:
        text, blob = (folder / _DESCRIPTION).read_text(), (folder / _WEIGHTS).read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise NetworkError(f"no network in {folder}: {error}") from error
    stored = _parse(text, folder / _DESCRIPTION)
    if (found := _sha256(stored["description"], blob)) != stored["sha256"]:
        raise NetworkError(f"{folder} has sha256 {found}, {_DESCRIPTION} says {stored['sha256']}: a file was changed")
    network = build(parse(stored["description"]))
    try:
        weights = load_tensors(blob)
    except SafetensorError as error:
        raise NetworkError(f"{folder / _WEIGHTS} holds no tensors: {error}") from error
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise NetworkError(f"{folder / _WEIGHTS}: {broken[0]} holds values that are not finite")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise NetworkError(f"{folder / _WEIGHTS} does not fit its description: {error}") from error
    return network.eval()


def _parse(text: str, path: Path) -> dict[str, Any]:
    """Return what a description file says, after checking its form."""
    try:
        stored = json.loads(text)
    except json.JSONDecodeError as error:
        raise NetworkError(f"{path} is not JSON: {error}") from error
    if not isinstance(stored, dict) or stored.keys() != {"format", "sha256", "description"}:
        raise NetworkError(f"{path} must have format, sha256 and description, and nothing else")
    if stored["format"] != _FORMAT:
        raise NetworkError(f"{path} has format {stored['format']!r}, this version reads {_FORMAT}")
    return stored


def _sha256(description: object, blob: bytes) -> str:
    """Hash both: weights under another description, such as names in another order, mean something else."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode() + b"\n" + blob).hexdigest()
