"""The folder of a run: what it trains, and its last checkpoint, from which a killed run goes on.

var/runs/NAME/run.json             the resolved configuration, the run's id, whether it has finished
var/runs/NAME/checkpoint-000012800/  what RLlib saves, with progress.json: the curve so far
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from data.atomic import lock, replace_file, replace_folder
from rl.training.run.curve import Point
from rl.training.run.errors import TrainingError
from rl.training.run.toml import flat

_RUN, _PROGRESS, _CHECKPOINT = "run.json", "progress.json", "checkpoint-"
_DIGITS = 12  # of the environment steps in a checkpoint's name


class Saved(Protocol):
    """An algorithm of RLlib, as far as a checkpoint is concerned."""

    def save_to_path(self, path: str) -> Any:
        """Write everything that training goes on from."""
        ...


@dataclass
class Progress:
    """How far a training is."""

    env_steps: int = 0
    seconds: float = 0.0
    """Spent on it by all processes that have worked on it."""
    curve: list[Point] = field(default_factory=list)


class RunFolder:
    """Keeps one run at a time; begun by `begin`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = ""
        """Tells this run from others of the same name."""
        self.continued = False
        """Whether it was begun by a process that has not finished it."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out, until this one ends in whatever way.

        Raises:
            TrainingError: another one is in.
        """
        with lock(self.path / "lock", self._is_in_use):
            yield

    def _is_in_use(self, process: str) -> TrainingError:
        return TrainingError(f"another process trains in {self.path}: wait for {process}, or give another --name")

    def begin(self, resolved: Mapping[str, Any], *, fresh: bool) -> Path | None:
        """Begin a run, or take up the one that was not finished.

        Args:
            resolved: the configuration.
            fresh: begin anew whatever there is.

        Returns:
            The checkpoint to go on from; None: there is none, begin at the beginning.

        Raises:
            TrainingError: an unfinished run has another configuration.
        """
        found = self._read()
        if fresh or found is None or found["finished"]:
            self._clear()
            self.id = uuid4().hex
            self._write(resolved, finished=False)
            return None
        if differences := describe_differences(found["config"], resolved):
            raise TrainingError(
                f"{self.path} holds an unfinished run with {differences}: "
                "give the same configuration to go on with it, --fresh to begin anew, or another --name"
            )
        self.id, self.continued = found["id"], True
        return self._last()

    def save(self, algorithm: Saved, progress: Progress) -> Path:
        """Write a checkpoint, which has its name only when it is complete, and drop the one before."""
        before = self._checkpoints()
        path = self.path / f"{_CHECKPOINT}{progress.env_steps:0{_DIGITS}d}"
        if path in before:  # the same steps again: nothing has been learned since
            return path
        with replace_folder(path) as new:
            algorithm.save_to_path(str(new.absolute()))
            (new / _PROGRESS).write_text(json.dumps(vars(progress)))
        for old in before:
            shutil.rmtree(old)
        return path

    def finish(self, resolved: Mapping[str, Any]) -> None:
        """Say that the run has ended; its checkpoint is of no more use."""
        self._write(resolved, finished=True)
        for old in self._checkpoints():
            shutil.rmtree(old)

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.path / _RUN).read_text())
        except FileNotFoundError:
            return None
        return found

    def _write(self, resolved: Mapping[str, Any], *, finished: bool) -> None:
        with replace_file(self.path / _RUN) as new:
            new.write_text(json.dumps({"id": self.id, "finished": finished, "config": resolved}, indent=1))

    def _clear(self) -> None:
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def _checkpoints(self) -> list[Path]:
        return sorted(self.path.glob(_CHECKPOINT + "[0-9]" * _DIGITS))

    def _last(self) -> Path | None:
        return next(iter(reversed(self._checkpoints())), None)


def read_progress(checkpoint: Path) -> Progress:
    """Return how far the training was when a checkpoint was written."""
    return Progress(**json.loads((checkpoint / _PROGRESS).read_text()))


def describe_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return in words what two configurations differ in; empty if in nothing."""
    old, new = flat(there), flat(json.loads(json.dumps(here)))
    differ = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {old.get(name)} instead of {new.get(name)}" for name in differ)
