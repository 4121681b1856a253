"""The kinds of experiments, each a module that is imported when one of them is run. Light."""

import tomllib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from data.errors import RecommenderError
from data.settings import Settings
from rl.config import TrainingConfig

RETAIL = "retail"

KINDS = {
    RETAIL: "rl.training.kinds.retail",
    "dqn": "rl.training.kinds.dqn",
    "bandit": "rl.training.kinds.bandit",
    "slate_q": "rl.training.kinds.slate_q",
    "offline": "rl.training.kinds.offline",
}
"""The module of each kind; it has `Experiment`, a `TrainingConfig` with the field `kind`, and `run`."""


class Kind(Protocol):
    """What the module of a kind offers."""

    Experiment: type[TrainingConfig]

    def run(self, experiment: Any, settings: Settings) -> dict[str, Any]:
        """Train, save the artefact, and return the report.

        Raises:
            DataError: there is nothing to train from.
            PolicyError: the policy cannot be trained so.
            TrainingError: the training cannot begin; says why.
        """
        ...


class UnknownKindError(RecommenderError):
    """There is no such kind of experiment; says which there are."""


def find(kind: str) -> Kind:
    """Import the module of a kind.

    Raises:
        UnknownKindError: there is none of that name.
    """
    if kind not in KINDS:
        raise UnknownKindError(f"kind: there is no kind of experiment {kind!r}; there are {', '.join(KINDS)}")
    module: Any = import_module(KINDS[kind])
    kind_of: Kind = module
    return kind_of


def named(arguments: Sequence[str]) -> str | None:
    """Return the kind that a command line names, by `--kind` or else in its file; None if neither does.

    A file that cannot be read names none; `rl.config.load` says what is wrong with it.
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
