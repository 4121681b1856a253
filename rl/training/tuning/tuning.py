"""A search on Ray Tune: trials of an experiment, of which successive halving stops the poorer ones.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (2020), algorithm 2 (ASHA).
"""

import os
import sys
from contextlib import ExitStack, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, cast

import ray.tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator

from data.private import create_private
from data.settings import Settings
from rl.training.run.curve import Point
from rl.training.run.errors import TrainingError
from rl.training.run.progress import Display
from rl.training.run.runs import RunFolder
from rl.training.run.session import ray_session
from rl.training.run.toml import dumps, flat
from rl.training.run.tracking import Tracker
from rl.training.tuning.search import Choice, Range, Tuning
from rl.training.tuning.trials import Trials

METRIC, TIME = "evaluation_return", "env_steps"


def tune(tuning: Tuning, settings: Settings) -> str:
    """Search, or go on with a search that was killed.

    Returns:
        The best trial's experiment as TOML: of the trials that have come furthest the one with the highest evaluated
        return. It is written to `tunings/NAME/best.toml` in the home as well, the trials' curves to `trials.png`.

    Raises:
        TrainingError: no trial has been evaluated, or an unfinished search of the same name has another configuration.
    """
    base, home = tuning.check(), (settings.home / "tunings" / tuning.name).absolute()
    folder, resolved = RunFolder(home), tuning.resolved()
    tuning = tuning.model_copy(update={"experiment": tuning.experiment.absolute()})  # a trial works in its own folder
    per_trial = tuning.cpus_per_trial + base.runners * base.cpus_per_runner
    with ExitStack() as stack:
        stack.enter_context(folder.lock())
        folder.begin(resolved, fresh=tuning.fresh)
        stack.enter_context(ray_session(tuning.max_concurrent * per_trial))
        tracker = stack.enter_context(Tracker(settings, tuning.name, resolved, run=folder.id, active=tuning.track))
        trials = Trials(tuning, settings, tracker, folder.id)
        with redirect_stdout(sys.stderr):  # standard output is for the result
            tuner(tuning, home, trials, continued=folder.continued).fit()
        trials.close()
        best = trials.best()
        if best is None:
            raise TrainingError(f"no trial was evaluated; the trials' errors are in {home / 'tune'}")
        toml = _format_best(tuning, best.sampled, best.curve[-1])
        (home / "best.toml").write_text(toml)
        trials.draw(home / "trials.png")
        tracker.log(int(best.curve[-1][TIME]), {METRIC: best.curve[-1][METRIC]})
        tracker.files(home / "best.toml")
        tracker.files(home / "trials.png")
        folder.finish(resolved)
        print(f"{tuning.name}: {home / 'best.toml'}, {home / 'trials.png'}", file=sys.stderr)
    return toml


def tuner(tuning: Tuning, home: Path, trials: Trials, *, continued: bool) -> ray.tune.Tuner:
    """Return Ray Tune's tuner of a search; a continued one finishes the trials that it has begun."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # our own tracker logs
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # and our own lines tell
    base = tuning.check()
    bundles = [{"CPU": tuning.cpus_per_trial}] + [{"CPU": base.cpus_per_runner}] * base.runners
    trainable = ray.tune.with_resources(
        partial(run_trial, tuning=tuning, home=home), ray.tune.PlacementGroupFactory(bundles)
    )
    space = {path: domain(searched) for path, searched in tuning.search.items()}
    if continued and ray.tune.Tuner.can_restore(str(home / "tune")):
        restored: Any = ray.tune.Tuner.restore(
            str(home / "tune"), trainable=trainable, param_space=space, resume_unfinished=True, restart_errored=True
        )
        restored._local_tuner._run_config.callbacks = [trials]  # callbacks are not saved with a search
        return cast(ray.tune.Tuner, restored)
    return ray.tune.Tuner(
        trainable,
        param_space=space,
        tune_config=ray.tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=tuning.samples,
            search_alg=BasicVariantGenerator(max_concurrent=tuning.max_concurrent, random_state=tuning.seed),
            scheduler=ASHAScheduler(
                time_attr=TIME,
                max_t=max(base.env_steps, tuning.grace),
                grace_period=tuning.grace,
                reduction_factor=tuning.reduction,
                stop_last_trials=False,  # one that is through saves its policy and ends by itself
            ),
        ),
        run_config=ray.tune.RunConfig(name="tune", storage_path=str(home), verbose=0, callbacks=[trials]),
    )


def domain(searched: Range | Choice) -> Any:
    """Return Ray Tune's name for a part of the search space."""
    if isinstance(searched, Choice):
        return ray.tune.choice(list(searched.values))
    low, high = searched.edges
    if searched.type == "int":  # which Ray Tune takes without the upper end
        return ray.tune.lograndint(low, high + 1) if searched.log else ray.tune.randint(low, high + 1)
    return ray.tune.loguniform(low, high) if searched.log else ray.tune.uniform(low, high)


def run_trial(sampled: dict[str, Any], *, tuning: Tuning, home: Path) -> None:
    """Train one trial in a process of Ray Tune, in a home of its own, where it is continued if it was killed."""
    from rl.training.run.rllib import train  # torch takes seconds

    create_private()
    name = ray.tune.get_context().get_trial_id()
    experiment = tuning.trial(sampled | {"name": f"trial-{name}", "track": False})
    with Display(experiment.name, experiment.env_steps) as display:
        train(experiment, Settings(home=home), display, report=_report)


def _report(point: Point) -> None:
    if METRIC in point:
        ray.tune.report(dict(point))


def _format_best(tuning: Tuning, sampled: dict[str, Any], point: Point) -> str:
    experiment = tuning.trial(sampled).resolved()
    values = ", ".join(f"{name} = {flat(experiment)[name]}" for name in tuning.search)
    return (
        f"# The best of {tuning.samples} trials of {tuning.name}: return {point[METRIC]:.3f} "
        f"± {point['evaluation_standard_error']:.3f} after {point[TIME]:,} environment steps.\n# {values}\n"
        + dumps(experiment)
    )
