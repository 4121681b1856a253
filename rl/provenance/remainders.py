"""What stands in, step by step, for the rows of forgotten users that a fold has learned from.

    steps.json            which steps, which policies, and which file has the arrays of each
    00000.safetensors     their arrays: impressions that a policy learned, or the state that it came to

It names nobody. Which impressions were the user's is not said: they are those of all that a policy learned in the step.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from rl.online.snapshot import SnapshotError
from rl.online.steps import Remainder, Taught
from rl.policy.queries import DENSE, Impressions
from rl.policy.sparse import Sparse

_STEPS, _CLOSED, _SPARSE = "steps.json", "closed", "sparse."
_FILE_BYTES = 1 << 24


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    has: Literal["impressions", "state", "nothing"]
    rows: int = 0
    set_aside: tuple[int, ...] = ()


class _Step(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    file: int
    closed: bool
    policies: Mapping[str, _Policy]


class _Steps(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    fold_id: str
    steps: tuple[_Step, ...]


class RemainderWriter:
    """Writes the remainders of a fold into an empty folder, in the order of its steps."""

    def __init__(self, fold_id: str, folder: Path) -> None:
        self._fold_id, self._folder = fold_id, folder
        self._steps, self._arrays, self._files, self._held = list[_Step](), dict[str, NDArray[Any]](), 0, 0
        self.bytes = 0
        """Of all arrays."""

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, number: int, remainder: Remainder) -> None:
        """Write what stands in for rows in a step."""
        arrays, policies = dict[str, NDArray[Any]](), dict[str, _Policy]()
        if remainder.closed is not None:
            arrays[_CLOSED] = remainder.closed
        for name, taught in remainder.policies.items():
            has: Literal["impressions", "state", "nothing"] = "nothing"
            if taught.state is not None:
                has = "state"
                arrays |= {f"{name}.{key}": array for key, array in taught.state.items()}
            elif taught.impressions is not None:
                has = "impressions"
                arrays |= {f"{name}.{key}": array for key, array in to_arrays(taught.impressions).items()}
            policies[name] = _Policy(has=has, rows=taught.rows, set_aside=tuple(sorted(taught.set_aside)))
        closed = remainder.closed is not None
        self._steps.append(_Step(number=number, file=self._files, closed=closed, policies=policies))
        self._arrays |= {f"{number}.{name}": np.array(array, order="C") for name, array in arrays.items()}
        size = sum(array.nbytes for array in arrays.values())
        self.bytes, self._held = self.bytes + size, self._held + size
        if self._held >= _FILE_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the rest, and which steps there are."""
        self._flush()
        steps = _Steps(fold_id=self._fold_id, steps=tuple(self._steps))
        (self._folder / _STEPS).write_text(steps.model_dump_json())

    def _flush(self) -> None:
        if self._arrays:
            _file(self._folder, self._files).write_bytes(save_arrays(self._arrays))
            self._arrays, self._held, self._files = {}, 0, self._files + 1


class RemainderReader:
    """Reads what `RemainderWriter` wrote."""

    def __init__(self, folder: Path) -> None:
        """Open it.

        Raises:
            SnapshotError: the folder does not hold one.
        """
        self._folder = folder
        try:
            steps = _Steps.model_validate_json((folder / _STEPS).read_bytes())
        except (OSError, ValidationError) as error:
            raise SnapshotError(f"{folder} does not hold remainders of a fold: {error}") from error
        self.fold_id = steps.fold_id
        self._steps = {step.number: step for step in steps.steps}
        self._load = lru_cache(maxsize=1)(self._read)

    def at(self, number: int) -> Remainder | None:
        """Return what stands in for rows in a step; None: nothing.

        Raises:
            SnapshotError: its arrays are not there.
        """
        if (step := self._steps.get(number)) is None:
            return None
        try:
            arrays = (
                self._load(step.file) if step.closed or any(p.has != "nothing" for p in step.policies.values()) else {}
            )
            policies = {name: _taught(policy, arrays, f"{number}.{name}.") for name, policy in step.policies.items()}
            return Remainder(policies, arrays[f"{number}.{_CLOSED}"].copy() if step.closed else None)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise SnapshotError(f"{self._folder} does not hold what remains of step {number}: {error}") from error

    def _read(self, file: int) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = load_arrays(_file(self._folder, file).read_bytes())
        return arrays


def merge(remainders: Iterator[Remainder]) -> Remainder | None:
    """Return what stands in for the rows of several users in a step; None: nothing does.

    A policy came to the same whoever is gone. Windows closed are those that each says.
    """
    policies, closed, found = dict[str, Taught](), None, False
    for remainder in remainders:
        found, policies = True, {**remainder.policies, **policies}
        if remainder.closed is not None:
            closed = remainder.closed if closed is None else np.intersect1d(closed, remainder.closed)
    return Remainder(policies, closed) if found else None


def to_arrays(impressions: Impressions) -> dict[str, NDArray[Any]]:
    """Return impressions as arrays by name."""
    arrays = {name: getattr(impressions, name) for name in DENSE}
    if impressions.sparse is not None:
        arrays |= {f"{_SPARSE}{name}": getattr(impressions.sparse, name) for name in Sparse.__slots__}
    return arrays


def _taught(policy: _Policy, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Taught:
    own = {name.removeprefix(prefix): array.copy() for name, array in arrays.items() if name.startswith(prefix)}
    set_aside = frozenset(policy.set_aside)
    if policy.has == "state":
        return Taught(state=own, rows=policy.rows, set_aside=set_aside)
    if policy.has == "nothing":
        return Taught(set_aside=set_aside)
    sparse = {name.removeprefix(_SPARSE): array for name, array in own.items() if name.startswith(_SPARSE)}
    dense = {name: own[name] for name in DENSE if name in own}  # those of before policies forgot have no `at`
    return Taught(Impressions(**dense, sparse=Sparse(**sparse) if sparse else None), set_aside=set_aside)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.safetensors"
