"""The trials of a search as they come in: on standard error, in MLflow, and as a picture."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.tune import Callback

from data.settings import Settings
from rl.training.run.curve import Point
from rl.training.run.tracking import Status, Tracker
from rl.training.tuning.search import Tuning

_LOGGED = ("return", "evaluation_return", "evaluation_standard_error", "loss", "q_mean", "env_steps_per_s")


@dataclass
class Trial:
    """What is known of one trial."""

    number: int
    sampled: dict[str, Any]
    curve: list[Point] = field(default_factory=list)
    """Its evaluations."""


class Trials(Callback):
    """Listens to Ray Tune, in the process that runs the search.

    Args:
        tuning: the search.
        settings: where MLflow keeps its runs.
        tracker: of the search; each trial's run is shown under it.
        run: id of the search.
    """

    def __init__(self, tuning: Tuning, settings: Settings, tracker: Tracker, run: str) -> None:
        self._tuning, self._settings, self._tracker, self._run = tuning, settings, tracker, run
        self._trials = dict[str, Trial]()
        self._trackers = dict[str, Tracker]()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is of this process; Ray Tune keeps a copy of its callbacks beside a search."""
        return vars(self) | {"_tracker": None, "_trackers": {}}

    def get_state(self) -> dict[str, Any]:
        """Return what a search that is continued must know."""
        return {"trials": self._trials}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `get_state`."""
        self._trials = state["trials"]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open its run."""
        if trial.trial_id in self._trackers:
            return
        known = self._trials.setdefault(trial.trial_id, Trial(len(self._trials) + 1, dict(trial.config)))
        tracker = Tracker(
            self._settings,
            self._tuning.name,
            trial.config,
            name=f"trial {known.number}",
            run=f"{self._run}-{trial.trial_id}",
            parent=self._tracker,
            active=self._tuning.track,
        )
        self._trackers[trial.trial_id] = tracker.__enter__()
        self._say(known, "starts with " + ", ".join(f"{name} {_short(value)}" for name, value in known.sampled.items()))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note an evaluation."""
        known = self._trials[trial.trial_id]
        point = {name: float(result[name]) for name in _LOGGED if name in result} | {"env_steps": result["env_steps"]}
        known.curve = [
            old for old in known.curve if old["env_steps"] < point["env_steps"]
        ]  # it may go back to a checkpoint
        known.curve.append(point)
        self._trackers[trial.trial_id].log(point["env_steps"], {name: point[name] for name in _LOGGED if name in point})
        self._say(known, f"{point['env_steps']:,} env steps  evaluated {point['evaluation_return']:.3f}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close its run."""
        self._close(trial, "FINISHED", "ends")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close its run."""
        self._close(trial, "FAILED", f"fails; see {trial.error_file}")

    def _close(self, trial: Any, status: Status, said: str) -> None:
        if tracker := self._trackers.pop(trial.trial_id, None):
            self._say(self._trials[trial.trial_id], said)
            tracker.close(status)

    def close(self) -> None:
        """Close the runs of trials that Ray Tune has not ended itself."""
        for tracker in self._trackers.values():
            tracker.close("KILLED")
        self._trackers.clear()

    def best(self) -> Trial | None:
        """Return the trial of the highest evaluated return among those that have come furthest, if any."""
        evaluated = [trial for trial in self._trials.values() if trial.curve]
        return max(
            evaluated,
            key=lambda trial: (trial.curve[-1]["env_steps"], trial.curve[-1]["evaluation_return"]),
            default=None,
        )

    def draw(self, path: Path) -> None:
        """Write a PNG of all trials' evaluations, the best one thick."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure, best = Figure(figsize=(8, 5), dpi=120, layout="constrained"), self.best()
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(
            title=self._tuning.name, xlabel="environment steps", ylabel="return of an episode, without exploration"
        )
        for trial in self._trials.values():
            values = ", ".join(f"{name.split('.')[-1]} {_short(value)}" for name, value in trial.sampled.items())
            steps, returns = ([point[name] for point in trial.curve] for name in ("env_steps", "evaluation_return"))
            axes.plot(
                steps,
                returns,
                marker="o",
                markersize=3,
                linewidth=3 if trial is best else 1,
                label=f"{trial.number}: {values}",
            )
        axes.legend(fontsize=6)
        figure.savefig(path)

    def _say(self, trial: Trial, text: str) -> None:
        print(
            f"{self._tuning.name}: trial {trial.number} of {self._tuning.samples}: {text}", file=sys.stderr, flush=True
        )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
