"""The folders of runs: what each has done, so that one that was killed goes on at its next step.

var/continuous/NAME/lock                    who works here now
var/continuous/NAME/runs/000001/run.json    the run's id, its settings, and the result of each step that is done
var/continuous/NAME/runs/000001/...         what the steps have made
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from data.atomic import complete_replacements, lock, replace_file
from rl.continuous.errors import RunError
from rl.training.run.runs import describe_differences

_RUN = "run.json"
STEPS = ("ingest", "transitions", "train", "evaluate", "gate", "promote")
"""In this order."""


@dataclass
class Run:
    """One run, begun or ended."""

    folder: Path
    number: int
    id: str
    spec: dict[str, Any]
    why: str
    """What has begun it."""
    began: str
    """When: UTC in ISO 8601."""
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each step that is done has found."""

    @property
    def next_step(self) -> str | None:
        """The first step that is not done; None: the run has ended."""
        return next((step for step in STEPS if step not in self.steps), None)

    def finish(self, step: str, result: Mapping[str, Any]) -> None:
        """Keep that a step is done: whoever takes the run up goes on after it."""
        self.steps[step] = dict(result)
        self.save()

    def save(self) -> None:
        """Write what is known of the run."""
        state = asdict(self)
        del state["folder"]
        with replace_file(self.folder / _RUN, durable=True) as new:
            new.write_text(json.dumps(state, indent=1))


def read_run(folder: Path) -> Run:
    """Return what is kept of a run."""
    return Run(folder=folder, **json.loads((folder / _RUN).read_text()))


class Runs:
    """The runs of one name, oldest first."""

    def __init__(self, home: Path, name: str) -> None:
        self.path = home / "continuous" / name

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out, until this one ends in whatever way.

        Raises:
            RunError: another one is in.
        """
        with lock(self.path / "lock", self._is_in_use):
            yield

    def _is_in_use(self, process: str) -> RunError:
        return RunError(f"process {process} does a run in {self.path}: wait for it, or give another name")

    def folders(self) -> list[Path]:
        """Return the folders of all runs that have begun, the newest first."""
        return [
            path for path in sorted((self.path / "runs").glob("[0-9]" * 6), reverse=True) if (path / _RUN).is_file()
        ]

    def last(self) -> Run | None:
        """Return the newest run, whether it has ended or not; None: there was none."""
        return next((read_run(folder) for folder in self.folders()), None)

    def last_ended(self) -> Run | None:
        """Return the newest run that has ended; None: none has."""
        return next((run for folder in self.folders() if (run := read_run(folder)).next_step is None), None)

    def take_up(self, spec: Mapping[str, Any]) -> Run | None:
        """Return the run that has not ended; None: there is none.

        Raises:
            RunError: it has other settings.
        """
        if (run := self.last()) is None or run.next_step is None:
            return None
        if differences := describe_differences(run.spec, spec):
            raise RunError(
                f"{run.folder} holds a run that has not ended with {differences}: give the same settings to go on "
                f"with it, or delete {run.folder} to give it up: what is served is as it was"
            )
        complete_replacements(run.folder)
        return run

    def begin(self, spec: Mapping[str, Any], why: str) -> Run:
        """Begin a run."""
        last = self.last()
        number = last.number + 1 if last else 1
        folder = self.path / "runs" / f"{number:06}"
        shutil.rmtree(folder, ignore_errors=True)  # one that was killed before it had begun
        folder.mkdir(parents=True)
        began = datetime.now(UTC).isoformat(timespec="seconds")
        run = Run(folder, number, uuid4().hex, json.loads(json.dumps(spec)), why, began)
        run.save()
        return run

    def tidy(self, keep: int) -> None:
        """Delete the folders of all but the newest runs."""
        for folder in sorted((self.path / "runs").glob("[0-9]" * 6))[:-keep]:
            shutil.rmtree(folder)
