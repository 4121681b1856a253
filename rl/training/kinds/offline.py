"""Kind `offline`: a Q network learns from a table of logged transitions. Light: RLlib is imported when it is run."""

from typing import Any

from data.settings import Settings
from rl.training.kinds.offline_experiment import Experiment
from rl.training.run.progress import Display

__all__ = ["Experiment", "run"]


def run(experiment: Experiment, settings: Settings) -> dict[str, Any]:
    """Train, save the artefact, and return the report; see `rl.training.kinds.registry.Kind.run`."""
    with Display(experiment.name, experiment.offline.passes) as display:
        display.say("loading RLlib")
        from rl.training.kinds.offline_run import train  # ray and torch take seconds

        return train(experiment, settings, display)
