"""Trainings as jobs of Ray: started, listed, stopped. Ray keeps them, so they outlive the page and the console.

What runs is one of two lines that are written here. What a form chooses reaches it as values of the environment, which
a shell does not read as commands. It works on the console's own Ray: left to Ray, a job takes any Ray of the machine.
"""

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import ray

from data.settings import Settings
from serve.console.learning.experiments import ROOT, Experiment, Work
from serve.contracts.errors import ERRORS, Refused

_LINE: Final = (
    'cd "$RAYCOMMEND_JOB_FOLDER" && export RAY_ADDRESS="$RAYCOMMEND_JOB_RAY"'
    ' && exec "$RAYCOMMEND_JOB_PYTHON" -m {module} "$RAYCOMMEND_JOB_EXPERIMENT"'
)
LINES: Final[dict[Work, str]] = {
    "train": _LINE.format(module="rl.train") + ' ${RAYCOMMEND_JOB_ALIAS:+--register_as "$RAYCOMMEND_JOB_ALIAS"}',
    "tune": _LINE.format(module="rl.tune"),
}
CHALLENGER: Final = "challenger"
ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
_MARK: Final = "raycommend.experiment"
_PREFIX: Final = "raycommend-"
_PATIENCE_S: Final = 10.0
_LISTED: Final = 30
_LAST_LINES: Final = 40
_LONGEST_LINE: Final = 300


@dataclass(frozen=True, slots=True)
class Job:
    """A training or tuning that was started from the page."""

    job_id: str
    experiment: str
    """Its key."""
    work: str
    status: str
    """Of Ray: PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED."""
    began: datetime | None
    ended: datetime | None
    by: str
    """The name of the key that has started it."""
    message: str

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status not in ENDED


class Jobs:
    """Those of the Ray that the console runs on. All methods raise Refused, also where Ray takes no jobs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None
        self._starting = asyncio.Lock()

    async def list_last(self) -> list[Job]:
        """Return the last ones that were started from the page: those that run, then the others, the newest first."""
        return (await self._list())[:_LISTED]

    async def _list(self) -> list[Job]:
        found = [_describe(one) for one in await self._ask(lambda client: client.list_jobs()) if _is_ours(one)]
        latest = datetime.max.replace(tzinfo=UTC)
        return sorted(found, key=lambda job: (job.running, job.began or latest), reverse=True)

    async def start(self, experiment: Experiment, alias: str | None, by: str) -> str:
        """Start a training or tuning and return its id.

        Raises:
            Refused: conflict, the same experiment runs.
        """
        async with self._starting:
            for job in await self._list():
                if job.running and job.experiment == experiment.key:
                    message = f"{experiment.key} runs already, as {job.job_id}: stop that one first"
                    raise ERRORS.refuse("conflict", message, "experiment")
            return await self._submit(experiment, alias, by)

    async def _submit(self, experiment: Experiment, alias: str | None, by: str) -> str:
        job_id = f"{_PREFIX}{experiment.work}-{uuid4().hex[:12]}"
        metadata = {_MARK: experiment.key, "raycommend.work": experiment.work, "raycommend.by": by}
        environment = self._environment(experiment, alias)
        await self._ask(
            lambda client: client.submit_job(
                entrypoint=LINES[experiment.work],
                submission_id=job_id,
                metadata=metadata,
                runtime_env=environment,
            )
        )
        return job_id

    async def stop(self, job_id: str) -> None:
        """Ask Ray to stop a job; it is listed as stopped when it has ended."""
        await self._own(job_id)
        await self._ask(lambda client: client.stop_job(job_id))

    async def last_lines(self, job_id: str) -> list[str]:
        """Return what a job has said last."""
        await self._own(job_id)
        text = await self._ask(lambda client: client.get_job_logs(job_id))
        return [line[:_LONGEST_LINE] for line in str(text).replace("\r", "\n").splitlines()[-_LAST_LINES:]]

    async def _own(self, job_id: str) -> Job:
        """Return a job that was started from the page; others' are not the page's to touch."""
        for job in await self._list():
            if job.job_id == job_id:
                return job
        raise ERRORS.refuse("not_found", f"there is no job {job_id[:60]!r} of this page", "job")

    def _environment(self, experiment: Experiment, alias: str | None) -> dict[str, Any]:
        """Return where a job runs: in the console's own folder, or in the package that it was sent as."""
        context = ray.get_runtime_context()
        sent = context.runtime_env.get("working_dir")
        inside = sent is not None and experiment.path.is_relative_to(ROOT)
        path = experiment.path.relative_to(ROOT) if inside else experiment.path
        settings = self._settings
        values = {
            "RAYCOMMEND_JOB_FOLDER": "." if sent else str(ROOT),
            "RAYCOMMEND_JOB_PYTHON": sys.executable,
            "RAYCOMMEND_JOB_EXPERIMENT": str(path),
            "RAYCOMMEND_JOB_ALIAS": alias or "",
            "RAYCOMMEND_JOB_RAY": context.gcs_address,
            "RAYCOMMEND_HOME": str(settings.home.absolute()),
            "RAYCOMMEND_STORE": settings.store_url,
            "RAYCOMMEND_ARCHIVE": settings.archive_uri,
            "MLFLOW_TRACKING_URI": settings.tracking_uri,
        }
        environment: dict[str, Any] = {"env_vars": values}
        return environment | ({"working_dir": sent} if sent else {})

    async def _ask(self, ask: Any) -> Any:
        try:
            return await asyncio.wait_for(asyncio.to_thread(self._call, ask), _PATIENCE_S)
        except TimeoutError:
            self._client = None
            raise self._refuse(f"no answer within {_PATIENCE_S:g} s") from None

    def _call(self, ask: Any) -> Any:
        if not ray.is_initialized():
            raise self._refuse("this process runs without Ray")
        from ray.job_submission import JobSubmissionClient  # takes most of a second

        try:
            if self._client is None:
                self._client = JobSubmissionClient(ray.get_runtime_context().gcs_address)
            return ask(self._client)
        except (RuntimeError, ConnectionError, ValueError, OSError) as error:  # what the client raises
            self._client = None
            raise self._refuse(f"{type(error).__name__}: {error}"[:_LONGEST_LINE]) from error

    @staticmethod
    def _refuse(reason: str) -> Refused:
        return ERRORS.refuse("not_ready", f"Ray takes no jobs here, as without its dashboard: {reason}")


def _is_ours(details: Any) -> bool:
    return str(details.submission_id or "").startswith(_PREFIX) and _MARK in (details.metadata or {})


def _describe(details: Any) -> Job:
    status, metadata = details.status, details.metadata or {}
    return Job(
        job_id=str(details.submission_id),
        experiment=metadata[_MARK],
        work=metadata.get("raycommend.work", "train"),
        status=str(getattr(status, "value", status)),
        began=_time(details.start_time),
        ended=_time(details.end_time),
        by=metadata.get("raycommend.by", ""),
        message=(details.message or "").strip().rpartition("\n")[2][:_LONGEST_LINE],
    )


def _time(ms: int | None) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None
