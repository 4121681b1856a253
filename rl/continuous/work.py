"""What every step is given."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.log.store import Store
from data.reward import RewardSpec
from data.settings import Settings
from rl.artefacts.artefact import Artefact, load
from rl.continuous.runs import Run
from rl.continuous.specification import ContinuousSpec
from rl.downloads import fetch
from rl.registry import RegisteredPolicy, resolve
from rl.training.run.tracking import Tracker

Say = Callable[[str], None]
"""Shows a line of progress."""


@dataclass(frozen=True)
class Work:
    """A run with what it works on."""

    spec: ContinuousSpec
    settings: Settings
    run: Run
    store: Store
    tracker: Tracker
    say: Say

    def folder(self, step: str) -> Path:
        """Return where a step keeps what it makes."""
        return self.run.folder / step

    @property
    def reward(self) -> RewardSpec:
        """What feedback is worth, as the first step has settled it."""
        return RewardSpec.model_validate(self.run.steps["ingest"]["reward"])

    def champion(self) -> tuple[RegisteredPolicy, Path]:
        """Return the version that is continued, the champion of when the run began, and its folder.

        Raises:
            RegistryError: the registry does not answer, or does not have it any more.
        """
        version = resolve(self.settings, str(self.run.steps["ingest"]["champion"]["version"]), self.spec.model)
        return version, fetch(self.settings, version)

    def champion_artefact(self) -> Artefact:
        """Return the champion with the networks themselves, which can go on learning."""
        return load(self.champion()[1])
