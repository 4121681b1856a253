"""A run, step by step: what each has found is kept before the next begins, so that another process can go on there."""

import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import Any

from data.errors import RecommenderError
from data.log.store import Store
from data.settings import Settings
from rl.continuous.errors import RunError
from rl.continuous.judging import evaluate, judge, promote
from rl.continuous.learning import train
from rl.continuous.networks import DIGEST_TAG
from rl.continuous.reading import ingest
from rl.continuous.runs import STEPS, Run, Runs
from rl.continuous.specification import ContinuousSpec
from rl.continuous.tables import make_tables
from rl.continuous.triggers import find_reason
from rl.continuous.work import Work
from rl.registry import connect
from rl.training.run.toml import flat
from rl.training.run.tracking import Tracker

Step = Callable[[Work], dict[str, Any]]
FUNCTIONS: dict[str, Step] = dict(zip(STEPS, (ingest, make_tables, train, evaluate, judge, promote), strict=True))
_LONGEST = 500  # characters of a tag


class StepFailed(RunError):  # noqa: N818 - what happened, not a mistake of who asked
    """A step did not come to its end; says which, why, and how to go on. What is served is as it was."""


def do_run(
    spec: ContinuousSpec, settings: Settings, functions: Mapping[str, Step] = FUNCTIONS
) -> dict[str, Any] | None:
    """Go on with the run that has not ended, or begin one if one is due, and bring it to its end.

    Args:
        spec: what is trained, from what, and when.
        settings: where log, archive and registry are.
        functions: of the steps.

    Returns:
        What the run has found; None: none is due.

    Raises:
        RunError: another process does one, or one with other settings has not ended.
        StepFailed: a step of it failed.
        RegistryError: there is no champion, or the registry does not answer.
        StoreError: there is no log, it does not answer, or a process on another machine does a run.
    """
    runs, resolved = Runs(settings.home, spec.name), spec.resolved()
    with ExitStack() as stack:
        stack.enter_context(runs.lock())
        store = stack.enter_context(closing(Store.open(settings.store_url, make=False)))
        stack.enter_context(store.exclusively(f"continuous-{spec.name}"))
        if (run := runs.take_up(resolved)) is None:
            if (why := find_reason(spec, settings, store, runs.last_ended())) is None:
                return None
            run = runs.begin(resolved, why)
            _say(spec, run, f"begins: {why}")
        else:
            _say(spec, run, f"goes on at {run.next_step}")
        connect(settings)  # imports MLflow, before the tracker's thread does: at once they meet half-made modules
        name = f"{spec.name} {run.number}"
        tracker = stack.enter_context(Tracker(settings, spec.name, resolved, name=name, run=run.id))
        _do_steps(Work(spec, settings, run, store, tracker, lambda text: _say(spec, run, text)), functions)
        runs.tidy(spec.keep)
    return report(run) | {"mlflow_run": tracker.run_id, "mlflow_failures": tracker.failures}


def _do_steps(work: Work, functions: Mapping[str, Step]) -> None:
    """Do the steps that are not done."""
    run = work.run
    for number, step in enumerate(STEPS, start=1):
        if step not in run.steps:
            work.say(f"{number}/{len(STEPS)} {step}")
            try:
                result = functions[step](work)
            except Exception as error:  # whatever it is: nothing that is served has changed, and the run can go on
                if not isinstance(error, RecommenderError):
                    traceback.print_exc()
                raise StepFailed(
                    f"run {run.number} of {work.spec.name} failed at {step}: {error}; what is served is as it was. "
                    "The same command goes on at this step"
                ) from error
            run.finish(step, result)
        work.tracker.tags(_tags(step, run))  # of a step that a killed process has done too: its tags may be lost


def _tags(step: str, run: Run) -> dict[str, str]:
    """Return what MLflow keeps of a step: which data the run saw, and what came of it."""
    found = {f"raycommend.{step}.{name}": str(value)[:_LONGEST] for name, value in flat(run.steps[step]).items()}
    found["raycommend.continuous.why"] = run.why[:_LONGEST]
    if step == "train":
        found[DIGEST_TAG] = run.steps[step]["digest"]
    return found


def report(run: Run) -> dict[str, Any]:
    """Return what a run has found, as the command prints it."""
    steps = run.steps
    seen = {
        name: steps["ingest"][name] for name in ("loop", "decisions", "first", "last", "feedback", "since", "until")
    }
    return {
        "run": run.number,
        "why": run.why,
        "folder": str(run.folder),
        "data": seen,
        "sim_to_real": steps["transitions"]["sim_to_real"],
        "trained": steps["train"],
        "champion": steps["ingest"]["champion"]["version"],
        "version": steps["evaluate"]["version"],
        "promoted": steps["promote"]["promoted"],
        "verdict": steps["promote"]["why"],
    }


def _say(spec: ContinuousSpec, run: Run, text: str) -> None:
    print(f"{spec.name} run {run.number}: {text}", file=sys.stderr, flush=True)
