"""The last trainings as MLflow has them, with the curves of one metric. Imports mlflow when it is first asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Final

from data.errors import RecommenderError
from data.settings import Settings
from rl.training.run.tracking_client import tracking_client

LISTED: Final = 12
CURVES: Final = 6
POINTS: Final = 200
"""Of a curve; of longer ones every so many-th is shown."""
_PREFERRED: Final = ("return", "evaluation/return", "reward", "mean_reward", "regret", "loss")


class RunsUnreadableError(RecommenderError):
    """MLflow does not answer, or not with runs."""


@dataclass(frozen=True, slots=True)
class Run:
    """A training."""

    run_id: str
    experiment: str
    name: str
    status: str
    """Of MLflow: RUNNING, FINISHED, FAILED, KILLED."""
    began: datetime | None
    ended: datetime | None
    metrics: dict[str, float]
    """The last value of each."""


@dataclass(frozen=True, slots=True)
class RunCurve:
    """A metric of a run, by step."""

    run: Run
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Runs:
    """The newest runs, those that run first."""

    runs: tuple[Run, ...] = ()
    metric: str | None = None
    metrics: tuple[str, ...] = ()
    """That could be chosen."""
    curves: tuple[RunCurve, ...] = ()


class RunReader:
    """Reads MLflow's runs. Its methods block; several threads may ask."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._client: Any = None

    def read(self, metric: str | None = None) -> Runs:
        """Return the newest runs with the curves of a metric; None, or one that none has: of one that most have.

        Raises:
            RunsUnreadableError: MLflow does not answer; says why.
        """
        if self._settings.registry_missing:
            return Runs()
        with self._lock:
            try:
                return self._read(metric)
            except Exception as error:  # MLflow's own, and of whatever it keeps its runs in
                self._client = None
                line = (str(error).strip().splitlines() or [""])[0][:200]
                raise RunsUnreadableError(f"MLflow's runs cannot be read: {type(error).__name__}: {line}") from error

    def _read(self, metric: str | None) -> Runs:
        if self._client is None:
            self._client = tracking_client(self._settings.tracking_uri)
        names = {one.experiment_id: one.name for one in self._client.search_experiments(max_results=100)}
        if not names:
            return Runs()
        found = self._client.search_runs([*names], max_results=LISTED, order_by=["attributes.start_time DESC"])
        runs = [_describe(run, names) for run in found]
        runs.sort(key=lambda run: run.status != "RUNNING")
        metrics = _rank(runs)
        chosen = metric if metric in metrics else next(iter(metrics), None)
        having = [run for run in runs if chosen in run.metrics][:CURVES] if chosen else []
        return Runs(tuple(runs), chosen, tuple(metrics), tuple(self._curve(run, chosen or "") for run in having))

    def _curve(self, run: Run, metric: str) -> RunCurve:
        points = sorted((p.step, p.value) for p in self._client.get_metric_history(run.run_id, metric))
        each = -(-len(points) // POINTS) or 1
        some = [*points[:-1:each], *points[-1:]]
        return RunCurve(run, tuple(step for step, _ in some), tuple(value for _, value in some))


def _describe(run: Any, names: dict[str, str]) -> Run:
    info = run.info
    return Run(
        run_id=str(info.run_id),
        experiment=names.get(info.experiment_id, ""),
        name=str(info.run_name or info.run_id),
        status=str(info.status),
        began=_time(info.start_time),
        ended=_time(info.end_time),
        metrics=dict(run.data.metrics),
    )


def _rank(runs: Sequence[Run]) -> list[str]:
    """Return the metrics that runs have: what one looks for first, then those that most have."""
    counts = dict[str, int]()
    for run in runs:
        for name in run.metrics:
            counts[name] = counts.get(name, 0) + 1
    preferred = [name for name in _PREFERRED if name in counts]
    return preferred + sorted((n for n in counts if n not in preferred), key=lambda name: (-counts[name], name))


def _time(ms: int | None) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None
