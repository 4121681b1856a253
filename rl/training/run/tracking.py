"""A training as a run of MLflow, written by a thread of its own. Imports mlflow when the first run is opened.

Opening a store for the first time takes ten seconds and a write tens of milliseconds; neither may hold up a training,
and a tracker that fails must not end one: what could not be written is counted and said at the end. Where nobody
answers it gives up within seconds (see `rl.training.run.tracking_client`), and says so at once.

MLflow's own asynchronous logging (`log_batch(synchronous=False)`) is for metrics, parameters and tags alone: runs are
opened and ended, and files copied, in the caller's thread, and what it failed to write is known to none who does not
wait for it.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from types import TracebackType
from typing import Any, Literal, Self

from data.settings import Settings
from rl.training.run.toml import dumps, flat
from rl.training.run.tracking_client import (
    check_answers,
    tracking_client,
    waiting,
    without_credentials,
)

RUN_TAG = "raycommend.run"
"""Holds our own id of a run, by which one that was killed is found again."""
_LONGEST = 6_000  # characters of a parameter
_MOST = 100  # parameters of one call
_SAID_AFTER_S = 2.0  # seconds of waiting for the end of writing before a line says so

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class _Point:
    step: int
    at_ms: int
    values: dict[str, float]


class Tracker:
    """One run. Used as a context: leaving it waits until all is written.

    Args:
        settings: where MLflow keeps its runs.
        experiment: MLflow's experiment that the run belongs to.
        resolved: the configuration; logged as parameters and as `experiment.toml`.
        name: of the run; default: the experiment's.
        run: our own id of it; a run that has it already is continued, and what it has of a metric is not logged again.
        parent: a tracker whose run this one is shown under.
        active: False tracks nothing.
    """

    def __init__(
        self,
        settings: Settings,
        experiment: str,
        resolved: Mapping[str, Any],
        *,
        name: str | None = None,
        run: str | None = None,
        parent: "Tracker | None" = None,
        active: bool = True,
    ) -> None:
        self._settings, self._experiment, self._resolved = settings, experiment, dict(resolved)
        self._name, self._run, self._parent = name or experiment, run, parent
        self._jobs = SimpleQueue[Callable[[], None] | _Point | None]()
        self._last = dict[str, int]()  # the last step that the run has of each metric
        self._status: Status = "FINISHED"
        self._client: Any = None
        self.run_id: str | None = None
        """MLflow's id of the run, once it is open."""
        self._failed = False  # the last write
        self.failures = 0
        self.error = ""
        """The first failure."""
        self._opened = Event()
        self._thread = Thread(target=self._write, name="tracker", daemon=True) if active else None

    def __enter__(self) -> Self:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        self.close(self._status)

    def close(self, status: Status) -> None:
        """End the run, and wait until all is written."""
        self._status = status
        if self._thread:
            self._jobs.put(None)
            self._thread.join(_SAID_AFTER_S)
            if self._thread.is_alive():
                _say(f"writing the rest of the run to {without_credentials(self._settings.tracking_uri)}")
                self._thread.join()
        if self.failures:
            _say(f"{self.failures} writes failed, the first with: {self.error}")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics at an environment step; those that are not numbers are left out."""
        numbers = {name: float(value) for name, value in values.items() if value == value}
        self._jobs.put(_Point(step, int(time.time() * 1000), numbers))

    def files(self, path: Path, folder: str | None = None) -> None:
        """Copy a file, or all files of a folder, to the run's artefacts."""
        self._jobs.put(lambda: self._copy(path, folder))

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        for name, value in tags.items():
            self._jobs.put(lambda name=name, value=value: self._client.set_tag(self.run_id, name, value))  # type: ignore[misc]

    def _copy(self, path: Path, folder: str | None) -> None:
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        log(self.run_id, str(path), folder)

    def _write(self) -> None:
        with waiting(self._settings.tracking_uri):
            self._try(self._open)
        self._opened.set()
        if self.failures:
            _say(f"{without_credentials(self._settings.tracking_uri)}: this run is not tracked: {self.error}")
        ended = False
        while not ended:
            jobs = [self._jobs.get()]
            while not self._jobs.empty():
                jobs.append(self._jobs.get())
            if points := [job for job in jobs if isinstance(job, _Point)]:
                self._try(lambda points=points: self._log(points))  # type: ignore[misc]
            for job in jobs:
                if callable(job):
                    self._try(job)
            ended = None in jobs
        self._try(lambda: self._client.set_terminated(self.run_id, self._status))

    def _try(self, job: Callable[[], None]) -> None:
        """Do what may fail for reasons that are none of the training's: a lock, a network, a disk.

        After a failure a server is asked whether it answers before it is given more: so one that is gone holds up the
        end of a training for seconds, whatever there is to write.
        """
        if self.failures and self.run_id is None:
            return  # nothing was opened that could be written to
        try:
            if self._failed:
                check_answers(self._settings.tracking_uri)
            job()
            self._failed = False
        except Exception as error:
            self.failures += 1
            self._failed = True
            line = (str(error).strip().splitlines() or [""])[0][:200]
            self.error = self.error or without_credentials(
                self._settings.tracking_uri, f"{type(error).__name__}: {line}"
            )

    def _open(self) -> None:
        self._client = tracking_client(self._settings.tracking_uri)
        experiment = experiment_id(self._client, self._experiment, self._settings.tracking_files)
        found = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{self._run}'") if self._run else []
        if found:
            self.run_id = str(found[0].info.run_id)
            self._client.update_run(self.run_id, "RUNNING")
            self._last = {name: self._last_step(name) for name in found[0].data.metrics}
        else:
            self.run_id = str(self._client.create_run(experiment, tags=self._tags(), run_name=self._name).info.run_id)
            self._describe()

    def _tags(self) -> dict[str, str]:
        tags = {"mlflow.source.name": "raycommend", "mlflow.source.git.commit": commit()}
        if self._run:
            tags[RUN_TAG] = self._run
        if self._parent and self._parent._opened.wait(60) and self._parent.run_id:
            tags["mlflow.parentRunId"] = self._parent.run_id
        return {name: value for name, value in tags.items() if value}

    def _describe(self) -> None:
        from mlflow.entities import Param

        parameters = [Param(name, str(value)[:_LONGEST]) for name, value in flat(self._resolved).items()]
        for at in range(0, len(parameters), _MOST):
            self._client.log_batch(self.run_id, params=parameters[at : at + _MOST])
        self._client.log_text(self.run_id, dumps(self._resolved), "experiment.toml")

    def _last_step(self, metric: str) -> int:
        return max(int(point.step) for point in self._client.get_metric_history(self.run_id, metric))

    def _log(self, points: list[_Point]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, point.at_ms, point.step)
            for point in points
            for name, value in point.values.items()
            if point.step > self._last.get(name, -1)
        ]
        for at in range(0, len(metrics), 1_000):  # MLflow's limit
            self._client.log_batch(self.run_id, metrics=metrics[at : at + 1_000])


def _say(text: str) -> None:
    print(f"MLflow: {text}", file=sys.stderr, flush=True)


def experiment_id(client: Any, name: str, files: Path | None) -> str:
    """Return the id of MLflow's experiment of a name, which is created if there is none.

    Args:
        client: an MlflowClient.
        name: of the experiment.
        files: folder of the artefacts of one that is created; None: the server says where.
    """
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=(files / name).as_uri() if files else None))
    except MlflowException:  # another process was faster
        return str(client.get_experiment_by_name(name).experiment_id)


def commit() -> str:
    """Return the commit that the code is at; empty where this is no git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # there is no git
        return ""
