"""A fold's state with its cursor, as it is saved: whoever begins from it goes on as the fold itself would have.

fold.json            how far it had come, with what it began, and what it had set aside
arrays.safetensors   what its policies had learned, and the open wait windows
histories.json       of the users, where a policy reads them
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from data.errors import RecommenderError
from rl.online.fold import FoldSpec
from rl.online.history.histories import Histories
from rl.online.state import SetAside

_FOLD, _ARRAYS, _HISTORIES = "fold.json", "arrays.safetensors", "histories.json"
_POLICY, _WINDOWS = "policy.", "windows."  # what the names of arrays begin with


class SnapshotError(RecommenderError):
    """A folder does not hold a fold's state, or not one that a policy can go on from."""


class Cursor(BaseModel):
    """Where a fold was, and what it had begun with."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    fold_id: str
    number: int
    """The last step."""
    decision_seq: int
    feedback_seq: int
    """Log positions up to which it had read."""
    as_of: datetime
    """Of the last step."""
    spec: FoldSpec
    policies: dict[str, str]
    """Digests of the artefacts, by the policy's name."""
    checked: dict[str, int]
    """Impressions that each policy has learned since its state was last looked at; see `rl.online.guard`."""
    set_aside: int
    """How many rows."""
    rows: tuple[SetAside, ...]
    """Those that are remembered, oldest first."""
    history: int = 0
    """T, entries of a history; 0: none are kept."""


@dataclass(frozen=True)
class Snapshot:
    """What is saved of a fold. Arrays and histories belong to who has it."""

    cursor: Cursor
    policies: Mapping[str, Mapping[str, NDArray[Any]]]
    """`state_dict` of each policy that learns."""
    windows: Mapping[str, NDArray[Any]]
    histories: Histories | None = None

    def save(self, folder: Path) -> None:
        """Write it into an empty folder."""
        arrays = dict(_prefixed(_WINDOWS, self.windows))
        for name, state in self.policies.items():
            arrays |= _prefixed(f"{_POLICY}{name}.", state)
        (folder / _FOLD).write_text(self.cursor.model_dump_json(indent=1))
        (folder / _ARRAYS).write_bytes(save_arrays(arrays))
        if self.histories is not None:
            (folder / _HISTORIES).write_text(json.dumps(self.histories.to_json()))

    @classmethod
    def load(cls, folder: Path) -> "Snapshot":
        """Read what was saved.

        Raises:
            SnapshotError: the folder does not hold one.
        """
        try:
            cursor = Cursor.model_validate_json((folder / _FOLD).read_bytes())
            arrays = load_arrays((folder / _ARRAYS).read_bytes())
            histories = None
            if cursor.history:
                histories = Histories(cursor.history)
                histories.load_json(json.loads((folder / _HISTORIES).read_bytes()))
        except (OSError, ValidationError, SafetensorError, ValueError, TypeError, KeyError) as error:
            raise SnapshotError(f"{folder} does not hold a snapshot: {error}") from error
        policies = {name: _part(arrays, f"{_POLICY}{name}.") for name in cursor.checked}
        return cls(cursor, policies, _part(arrays, _WINDOWS), histories)


def begins_with(spec: FoldSpec, policies: Mapping[str, str], origin: Cursor | None) -> dict[str, JsonValue]:
    """Return what a fold's first step says: the digests of its artefacts, its specification, and where it goes on."""
    begins: dict[str, JsonValue] = {"policies": dict(policies), "spec": spec.model_dump(mode="json")}
    if origin:
        begins["from"] = {"fold_id": origin.fold_id, "number": origin.number}
    return begins


def _prefixed(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Iterable[tuple[str, NDArray[Any]]]:
    return ((f"{prefix}{name}", array) for name, array in arrays.items())


def _part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
