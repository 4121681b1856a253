"""What the registry knows of trials: which challengers were tried on a champion, at what level, and what was found.

A trial is a run of MLflow with the report.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

from data.atomic import lock
from data.settings import Settings
from rl.gate.report import Level, Report
from rl.gate.specification import GateSpec
from rl.registry import MODEL, RegistryError, connect, registry_errors
from rl.training.run.tracking import experiment_id

OF_TRIAL = "raycommend.gate."
"""Begins the names of the tags of a trial's run."""
REPORT_FOLDER = "report"
"""Of a run's artefacts."""
LONGEST = 4_000
"""Characters of a tag."""
_MOST = 5_000  # runs of one search

Status: TypeAlias = Literal["running", "done", "failed"]


@dataclass(frozen=True)
class Trial:
    """A challenger that is tried."""

    run_id: str
    level: Level


def begin_trials(
    settings: Settings, champion: str, challengers: Sequence[str], spec: GateSpec, model: str = MODEL
) -> dict[str, Trial]:
    """Give challengers their levels, and a run each; who was asked the same beside the champion before keeps its level.

    Args:
        settings: where the registry is.
        champion: digest.
        challengers: digests.
        spec: what is asked: with other rewards, or another beginning, it is another look, which has a level of its own.
        model: the registered model.

    Raises:
        RegistryError: the registry does not answer, or another process gives levels now.
    """
    client = connect(settings)
    with lock(settings.home / "gate.lock", _busy), registry_errors(settings):
        experiment = experiment_id(client, model, settings.tracking_files)
        before = client.search_runs([experiment], f"tags.`{OF_TRIAL}champion` = '{champion}'", max_results=_MOST)
        levels, family = dict[str, tuple[int, int]](), 0
        for run in sorted(before, key=lambda run: int(run.info.start_time)):
            tags = run.data.tags
            family = max(family, int(tags[f"{OF_TRIAL}family"]))
            if tags.get(f"{OF_TRIAL}sequence", spec.sequence) == spec.sequence:
                levels.setdefault(
                    tags[f"{OF_TRIAL}challenger"], (int(tags[f"{OF_TRIAL}family"]), int(tags[f"{OF_TRIAL}members"]))
                )
        family += 1
        new = [digest for digest in challengers if digest not in levels]
        trials = dict[str, Trial]()
        for digest in challengers:
            number, members = levels.get(digest, (family, len(new)))
            tags = {"champion": champion, "challenger": digest, "family": str(number), "members": str(members)}
            tags["sequence"] = spec.sequence
            with fail_on_error(settings, trials):
                run = client.create_run(
                    experiment,
                    run_name=f"gate {digest} beside {champion}",
                    tags={OF_TRIAL + name: value for name, value in tags.items()},
                )
            trials[digest] = Trial(str(run.info.run_id), Level.of(spec.alpha, number, members))
        return trials


def end_trial(settings: Settings, trial: Trial, report: Report, folder: Path) -> None:
    """Keep the report of a trial.

    Raises:
        RegistryError: the registry does not answer.
    """
    client, numbers = connect(settings), dict[str, float]()
    if (comparison := report.comparison) is not None:
        values = {
            "challenger": comparison.challenger.value,
            "champion": comparison.champion.value,
            "difference": comparison.all.difference,
        }
        numbers = {name: found.value for name, found in values.items() if found is not None}
        numbers["decisions"] = float(comparison.decisions)
        if comparison.all.lower is not None:
            numbers["lower_bound"] = comparison.all.lower
    with registry_errors(settings), redirect_stdout(sys.stderr):
        client.log_artifacts(trial.run_id, str(folder), REPORT_FOLDER)
        for name, number in numbers.items():
            client.log_metric(trial.run_id, name, number)
        client.set_tag(trial.run_id, f"{OF_TRIAL}verdict", report.verdict.sentence[:LONGEST])
        if report.forced is not None:
            client.set_tag(trial.run_id, f"{OF_TRIAL}forced", report.forced[:LONGEST])
        client.set_terminated(trial.run_id)


@contextmanager
def fail_on_error(settings: Settings, trials: Mapping[str, Trial]) -> Iterator[None]:
    """Where what is done inside raises, end the runs of these trials: they come to no report.

    Where the registry does not answer then either, they stay as they are: what was wrong first is what is told.
    """
    try:
        yield
    except BaseException:
        for trial in trials.values():
            with suppress(RegistryError):
                client = connect(settings)
                with registry_errors(settings):
                    client.set_terminated(trial.run_id, "FAILED")
        raise


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


def _busy(process: str) -> RegistryError:
    return RegistryError(f"process {process} begins a trial now: ask again")
