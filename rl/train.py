"""`python -m rl.train [EXPERIMENT.toml] [--field value ...]`: train a policy and save it as an artefact."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from data.errors import DataError
from data.private import keep_private
from data.settings import Settings
from rl.artefacts.artefact import ArtefactError
from rl.config import TrainingConfig, load
from rl.policy.interface import PolicyError
from rl.registry import RegistryError, register
from rl.training.kinds.registry import (
    KINDS,
    RETAIL,
    UnknownKindError,
    find,
    named,
)
from rl.training.run.errors import TrainingError

_HELP = """usage: python -m rl.train [EXPERIMENT.toml] [--field value ...]

Train the policy that a TOML file describes; fields given here win over the file's. Examples: rl/experiments/*.toml.
A run that was killed goes on from its checkpoint when the same command is given again.

kinds of experiments (`kind` in the file, or --kind; {default} if neither names one):
{kinds}

python -m rl.train --kind KIND --help  lists the fields of a kind
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: progress on standard error, the report as JSON on standard output.

    Exit status: 0; 2 where nothing was trained; 3 where the trained policy could not be registered; 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        kind = named(given)
        if kind is None and {"-h", "--help"} & set(given):
            print(_help(), end="")
            return 0
        module = find(kind or RETAIL)
        experiment, settings = load(module.Experiment, given), Settings()
        keep_private(settings.home)
        report = module.run(experiment, settings)
    except (ArtefactError, DataError, PolicyError, TrainingError, UnknownKindError) as error:
        print(f"rl.train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rl.train: interrupted", file=sys.stderr)
        return 130
    status = _register(report, experiment, settings) if experiment.register_as else 0
    print(json.dumps(report))
    return status


def _register(report: dict[str, Any], experiment: TrainingConfig, settings: Settings) -> int:
    """Register what was trained, and say so in the report; returns the exit status. The artefact is not lost by it."""
    folder, alias = experiment.folder(settings), str(experiment.register_as)
    try:
        report |= {"registered": register(settings, folder, alias).version, "as": alias}
    except (ArtefactError, RegistryError) as error:
        again = f"python -m rl.registry register {folder} --alias {alias}"
        print(
            f"rl.train: trained, the policy lies in {folder}; not registered: {error}; later: {again}", file=sys.stderr
        )
        report |= {"registered": None}
        return 3
    return 0


def _help() -> str:
    kinds = {kind: (find(kind).Experiment.__doc__ or "").splitlines()[0] for kind in KINDS}
    return _HELP.format(default=RETAIL, kinds="\n".join(f"  {kind:8} {line}" for kind, line in kinds.items()))


if __name__ == "__main__":
    sys.exit(main())
