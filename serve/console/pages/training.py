"""Trainings: runs with their curves, jobs that run or have ended, and a form that starts one."""

import asyncio
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import RedirectResponse, Response

from serve.console.forms import parse, read_form
from serve.console.learning.changing import answer, fields
from serve.console.learning.drawing import chart
from serve.console.learning.experiments import list_experiments
from serve.console.learning.jobs import CHALLENGER, Jobs
from serve.console.learning.latest import Latest
from serve.console.learning.runs import RunCurve, RunReader, Runs
from serve.console.room import Room
from serve.console.visitors import visitor
from serve.contracts.errors import ERRORS
from serve.http.edge import Allow

_PATIENCE_S: Final = 0.15
"""How long a page waits for Ray and MLflow, which may take seconds: what they say then comes by itself."""
_METRICS: Final = 16
"""Of which runs are kept for who looks at them: each page asks again every two seconds."""
_CHANGED_S: Final = 5.0
"""How long one waits who has started or stopped something."""


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    metric: str = Field(default="", max_length=250)


class _Start(BaseModel):
    model_config = ConfigDict(extra="forbid")
    experiment: str = Field(max_length=300)
    challenger: Literal["on"] | None = None


JobId = Annotated[str, Path(max_length=100)]


def router(room: Room, page: str) -> APIRouter:
    """Return the routes, of which each is within the page Learning's."""
    routes = APIRouter(prefix="/training")
    settings = room.config.settings
    jobs, reader = Jobs(settings), RunReader(settings)
    listed, runs = Latest(jobs.list_last), dict[str, Latest[Runs]]()
    admin = [Depends(Allow("admin"))]

    async def describe(request: Request, metric: str) -> dict[str, Any]:
        if metric not in runs:
            if len(runs) == _METRICS:
                del runs[next(iter(runs))]
            runs[metric] = Latest(lambda: asyncio.to_thread(reader.read, metric or None))
        of_jobs, (found, problem) = await asyncio.gather(listed.read(_PATIENCE_S), runs[metric].read(_PATIENCE_S))
        principal = visitor(request.scope).principal
        return {
            "runs": found,
            "runs_problem": problem,
            "chart": _chart(found.curves) if found else None,
            "jobs": of_jobs[0],
            "jobs_problem": of_jobs[1],
            "may_act": principal is not None and principal.may("admin"),
            "metric": metric,
            "tab": "training",
        }

    @routes.get("")
    async def training(request: Request) -> Response:
        asked = parse(_Asked, fields(request))
        given = await describe(request, asked.metric)
        given["experiments"] = await asyncio.to_thread(list_experiments, settings)
        given["home"] = settings.home
        return answer(room, request, page, "learning_training.html", "learning_runs.html", **given)

    @routes.post("", dependencies=admin)
    async def start(request: Request) -> Response:
        form = await read_form(request, _Start)
        experiments = await asyncio.to_thread(list_experiments, settings)
        experiment = experiments.get(form.experiment)
        if experiment is None or experiment.problem:
            reason = experiment.problem if experiment else f"there is no experiment {form.experiment!r}"
            raise ERRORS.refuse("invalid_request", str(reason), "experiment")
        if form.challenger and experiment.work == "tune":
            raise ERRORS.refuse("invalid_request", "a search gives an experiment, which is no challenger", "challenger")
        principal = visitor(request.scope).principal
        alias = CHALLENGER if form.challenger else None
        await jobs.start(experiment, alias, principal.name if principal else "")
        await listed.renew(_CHANGED_S)
        return _back(request)

    @routes.post("/{job_id}/stop", dependencies=admin)
    async def stop(request: Request, job_id: JobId) -> Response:
        await jobs.stop(job_id)
        await listed.renew(_CHANGED_S)
        return _back(request)

    @routes.get("/{job_id}/lines")
    async def lines(request: Request, job_id: JobId) -> Response:
        said = await jobs.last_lines(job_id)
        return room.pages.show(request, "learning_lines.html", job_id=job_id, lines=said)

    return routes


def _back(request: Request) -> Response:
    """Return to the page, which lists what was done: a reload does not do it again."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/learning/training", 303)


def _chart(curves: tuple[RunCurve, ...]) -> str:
    """Return the chart of a metric of several runs, by step."""
    steps = sorted({step for curve in curves for step in curve.steps})
    series = []
    for curve in curves:
        at = dict(zip(curve.steps, curve.values, strict=True))
        finite = {step: value for step, value in at.items() if value == value and abs(value) < float("inf")}
        series.append({"label": curve.run.name, "values": [finite.get(step) for step in steps]})
    return chart([float(step) for step in steps], series, label="Step")
