"""The kinds of experiments: what describes each, and what runs it."""

import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from data.errors import RecommenderError
from data.settings import Settings
from rl.config import TrainingConfig


@dataclass(frozen=True)
class Kind:
    """One kind of experiment, by the names of what it needs ("module:attribute"), imported when asked for."""

    description: str
    """Of a `TrainingConfig` with the field `kind`."""
    runner: str
    """Of a function of the experiment and the settings, see `run`."""
    framework: str | None = None
    """What the runner loads, where that takes seconds."""

    @property
    def experiment(self) -> type[TrainingConfig]:
        """What an experiment of this kind is described by."""
        found: type[TrainingConfig] = resolve_name(self.description)
        return found

    def run(self, experiment: TrainingConfig, settings: Settings) -> dict[str, Any]:
        """Train, save the artefact, and return the report.

        Raises:
            DataError: there is nothing to train from.
            PolicyError: the policy cannot be trained so.
            TrainingError: the training cannot begin; says why.
        """
        if self.framework:
            print(f"{experiment.name}: loading {self.framework}", file=sys.stderr, flush=True)
        report: dict[str, Any] = resolve_name(self.runner)(experiment, settings)
        return report


RETAIL = "retail"

KINDS = {
    RETAIL: Kind("rl.training.kinds.retail:RetailExperiment", "rl.training.kinds.retail:run"),
    "dqn": Kind("rl.training.kinds.dqn:DQNExperiment", "rl.training.run.rllib:run", "RLlib"),
    "bandit": Kind("rl.training.kinds.bandit:BanditExperiment", "rl.training.run.rllib:run", "RLlib"),
    "slate_q": Kind("rl.training.kinds.slate_q:SlateQExperiment", "rl.training.run.rllib:run", "RLlib"),
    "offline": Kind(
        "rl.training.kinds.offline.experiment:OfflineExperiment", "rl.training.kinds.offline.run:run", "RLlib"
    ),
}


class UnknownKindError(RecommenderError):
    """There is no such kind of experiment; says which there are."""


def find(kind: str) -> Kind:
    """Return a kind by its name.

    Raises:
        UnknownKindError: there is none of that name.
    """
    if kind not in KINDS:
        raise UnknownKindError(f"kind: there is no kind of experiment {kind!r}; there are {', '.join(KINDS)}")
    return KINDS[kind]


def kind_in(arguments: Sequence[str]) -> str | None:
    """Return the kind that a command line names, by `--kind` or else in its file; None if neither does.

    A file that cannot be read names none; `rl.config.parse_config` says what is wrong with it.
    """
    for at, argument in enumerate(arguments):
        if argument == "--kind" and at + 1 < len(arguments):
            return arguments[at + 1]
        if argument.startswith("--kind="):
            return argument.removeprefix("--kind=")
    if arguments and not arguments[0].startswith("-"):
        try:
            return str(tomllib.loads(Path(arguments[0]).read_text()).get("kind", RETAIL))
        except (OSError, ValueError):
            return RETAIL
    return None
