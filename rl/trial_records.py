"""The trials of challengers that the registry knows of: which, when, what was found. For people who look."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

from data.settings import Settings
from rl.promotions import OF_TRIAL, REPORT_FOLDER
from rl.registry import MODEL, RegistryError, connect, registry_errors
from rl.training.run.tracking import experiment_id

Status: TypeAlias = Literal["running", "done", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """A challenger that was, or is being, tried on a champion."""

    run_id: str
    champion: str
    """Digest."""
    challenger: str
    """Digest."""
    began: datetime
    status: Status
    verdict: str | None
    """In a sentence; None: it came to no report."""
    forced: str | None
    """Why the challenger was to be promoted all the same."""


def list_trials(settings: Settings, model: str = MODEL, limit: int = 50) -> list[TrialRecord]:
    """Return the newest trials, the newest first.

    Raises:
        RegistryError: the registry does not answer.
    """
    if settings.registry_missing:
        return []
    client = connect(settings)
    with registry_errors(settings):
        experiment = experiment_id(client, model, settings.tracking_files)
        runs = client.search_runs(
            [experiment], f"tags.`{OF_TRIAL}challenger` != ''", max_results=limit, order_by=["start_time DESC"]
        )
        return [_record(run.info, run.data.tags) for run in runs]


def _record(info: Any, tags: Mapping[str, str]) -> TrialRecord:
    named: dict[str, Status] = {"FINISHED": "done", "RUNNING": "running"}
    return TrialRecord(
        run_id=str(info.run_id),
        champion=tags.get(f"{OF_TRIAL}champion", ""),
        challenger=tags[f"{OF_TRIAL}challenger"],
        began=datetime.fromtimestamp(info.start_time / 1000, UTC),
        status=named.get(str(info.status), "failed"),
        verdict=tags.get(f"{OF_TRIAL}verdict"),
        forced=tags.get(f"{OF_TRIAL}forced"),
    )


@contextmanager
def fetch_trial(settings: Settings, run_id: str) -> Iterator[Path]:
    """Yield a folder with the report of a trial.

    Raises:
        RegistryError: there is no such run, it has no report, or the registry does not answer.
    """
    client = connect(settings)
    with TemporaryDirectory(prefix="report-") as folder:
        with registry_errors(settings):
            if OF_TRIAL + "challenger" not in client.get_run(run_id).data.tags:
                raise RegistryError(f"run {run_id} is no trial of a challenger")
            path = Path(client.download_artifacts(run_id, REPORT_FOLDER, folder))
        yield path
