"""Runs the experiments that play a simulator. Light: RLlib is imported when one is run."""

from typing import Any

from data.settings import Settings
from rl.training.kinds.experiment import SimulatorExperiment
from rl.training.run.progress import Display


def run(experiment: SimulatorExperiment, settings: Settings) -> dict[str, Any]:
    """Train, save the artefact, and return the report; see `rl.training.kinds.registry.Kind.run`."""
    with Display(experiment.name, experiment.env_steps) as display:
        display.say("loading RLlib")
        from rl.training.run.rllib import train  # ray and torch take seconds

        return train(experiment, settings, display)
